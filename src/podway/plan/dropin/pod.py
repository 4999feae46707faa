"""What a drop-in plugin's interface holds inside a pod."""

from __future__ import annotations

import msgspec

from podway.model.dropin import Path
from podway.model.objects import (
    MAIN_TABLE,
    Actual,
    Address,
    AnyObject,
    Key,
    Link,
    Route,
    Sysctl,
    family_of,
)
from podway.plan.attach.pod import BOOT_PROTOCOL, IPV6_METRIC

KERNEL_PROTOCOL = 2  # RTPROT_KERNEL: routes to the subnets of addresses
_LINK_LOCAL = ("fe80:", "ff00:")


#: objects to make inside a pod, and those that are to go then
Change = tuple[tuple[AnyObject, ...], tuple[AnyObject, ...]]


def is_link_local(prefix: str) -> bool:
    """Whether an IPv6 address or prefix is of each link by itself (multicast too)."""
    return prefix.startswith(_LINK_LOCAL)


def of_interface(actual: Actual, ifname: str, table: int = MAIN_TABLE) -> tuple[Route, ...]:
    """The routes of an interface in a table, but those that each link has by itself."""
    return tuple(
        one
        for one in actual.values()
        if isinstance(one, Route)
        and (one.dev, one.table, one.type) == (ifname, table, "unicast")
        and not is_link_local(one.dst)
    )


def moved_on(actual: Actual, ifname: str) -> set[Key]:
    """Keys of routes of the main table that the interface has in another one: sbr and vrf put them there."""
    routes = (one for one in actual.values() if isinstance(one, Route) and one.dev == ifname)
    return {msgspec.structs.replace(one, table=MAIN_TABLE).key for one in routes if one.table != MAIN_TABLE}


def route(path: Path, ifname: str) -> Route:
    """A route of an IPAM result; it is the pod's, not this node's."""
    six = family_of(path.dst) == 6
    return Route(
        dst=path.dst,
        via=path.gw,
        dev=ifname,
        table=path.table or MAIN_TABLE,
        protocol=BOOT_PROTOCOL,
        scope="global" if six else path.scope or "global",
        metric=path.priority or (IPV6_METRIC if six else 0),
        mtu=path.mtu,
        src=path.src,
        advmss=path.advmss,
        onlink=path.onlink,
    )


def interface(
    link: Link,
    addresses: tuple[str, ...],
    routes: tuple[Path, ...],
    dad: bool = False,
    connected: bool = True,
) -> tuple[AnyObject, ...]:
    """An interface that another object made, with its settings, addresses and routes.

    ``dad``: look for duplicates of IPv6 addresses. ``connected`` False: no routes to the subnets."""
    objects: list[AnyObject] = []
    if any(family_of(address) == 6 for address in addresses):
        # Runtimes start namespaces with IPv6 off; an address then is refused with EACCES, and lo has no ::1.
        objects += [Sysctl(path=f"net/ipv6/conf/{one}/disable_ipv6", value="0") for one in ("lo", link.name)]
        objects.append(Sysctl(path=f"net/ipv6/conf/{link.name}/keep_addr_on_down", value="1"))
    objects.append(link)
    alone = None if connected else True
    objects += [
        Address(link=link.name, address=address, nodad=not dad, noprefixroute=alone) for address in addresses
    ]
    objects += [route(path, link.name) for path in routes]
    return tuple(objects)

"""Inside the pod: what its namespace holds, the same for every kind of attachment.

Applied at ADD and verified by CHECK; never watched, because an open socket would keep a dead pod's
namespace alive.
"""

from __future__ import annotations

import ipaddress

from podway.model import names
from podway.model.objects import MAIN_TABLE, Address, AnyObject, Link, Route, Rule, Sysctl, family_of
from podway.model.resources import Endpoint

DEFAULT_ROUTES = {4: "0.0.0.0/0", 6: "::/0"}
IPV6_METRIC = 1024  # IP6_RT_PRIO_USER, include/uapi/linux/ipv6_route.h: what 0 becomes
BOOT_PROTOCOL = 3  # RTPROT_BOOT: the pod's routes are the pod's, not this node's
ANSWERS = 16384  # priority of the rules that keep answers on their interface


def _route(dst: str, via: str, endpoint: Endpoint, table: int = MAIN_TABLE) -> Route:
    return Route(
        dst=dst,
        via=via,
        dev=endpoint.ifname,
        table=table,
        protocol=BOOT_PROTOCOL,
        scope="global" if via or family_of(dst) == 6 else "link",
        metric=endpoint.metric + (IPV6_METRIC if family_of(dst) == 6 else 0),
        onlink=_is_off_link(via, endpoint),
        mtu=endpoint.route_mtu,
    )


def _is_off_link(via: str, endpoint: Endpoint) -> bool:
    """Whether no address of the pod makes a next hop on-link; an IPv6 one that has to be is link-local."""
    if not via or family_of(via) == 6:
        return False
    own = (ipaddress.ip_interface(address).network for address in endpoint.addresses)
    return not any(ipaddress.ip_address(via) in network for network in own)


def _answers(endpoint: Endpoint) -> list[AnyObject]:
    """What a further interface answers to leaves by it, not by the one that has the first default route.

    The node would refuse it there: on every link a pod may use that link's addresses alone."""
    if not endpoint.metric and (endpoint.bridge or endpoint.gateways):
        return []
    gateways = dict(names.ROUTED_GATEWAYS) if not endpoint.bridge else {}
    gateways |= {family_of(gateway): gateway for gateway in endpoint.gateways}
    table = names.source_table(endpoint.ifname)
    objects: list[AnyObject] = []
    for address in endpoint.addresses:
        family, own = family_of(address), ipaddress.ip_interface(address)
        if family not in gateways:
            continue
        if endpoint.bridge:
            objects.append(_route(str(own.network), "", endpoint, table))
        objects.append(_route(DEFAULT_ROUTES[family], gateways[family], endpoint, table))
        source = f"{own.ip}/{own.max_prefixlen}"
        objects.append(Rule(family=family, priority=ANSWERS, src=source, table=table, protocol=BOOT_PROTOCOL))
    return objects


def inside(endpoint: Endpoint) -> tuple[AnyObject, ...]:
    """Loopback, the interface, its addresses, the default route and the routes asked for."""
    name = endpoint.ifname
    objects: list[AnyObject] = [Link(name="lo", kind="")]
    if any(family_of(address) == 6 for address in endpoint.addresses):
        objects += [
            # Runtimes start namespaces with IPv6 off: an address is refused, with EACCES, and lo has none.
            Sysctl(path="net/ipv6/conf/lo/disable_ipv6", value="0"),
            Sysctl(path=f"net/ipv6/conf/{name}/disable_ipv6", value="0"),
            Sysctl(path=f"net/ipv6/conf/{name}/accept_ra", value="0"),
        ]
    objects.append(Link(name=name, kind="veth", mac=endpoint.mac, mtu=endpoint.mtu))
    objects += [Address(link=name, address=address, nodad=True) for address in endpoint.addresses]
    objects += [
        _route(DEFAULT_ROUTES[family_of(gateway)], gateway, endpoint) for gateway in endpoint.gateways
    ]
    objects += [_route(route.dst, route.gw, endpoint) for route in endpoint.routes]
    objects += _answers(endpoint)
    return tuple(objects)

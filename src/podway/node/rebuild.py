"""Endpoints out of the kernel, when the node's database was lost: living pods must not lose their network.

A host link tells container and interface by its alias, its network by its bridge or its host routes, and by
the ifindex of its other end which of this machine's network namespaces the pod is. The rest is read in
there; where the namespace can't be found (nothing but a descriptor holds it), from the sets that guard it.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from podway.kernel import namespaces
from podway.kernel.facade import DOOMED_GROUP, Kernel
from podway.model import names
from podway.model.objects import Actual, Address, Link, NftElement, Qdisc, Route, family_of
from podway.model.resources import Bandwidth, Endpoint, Network, PortMap
from podway.plan.attach.bridge import bridge_name
from podway.plan.attach.pod import DEFAULT_ROUTES

ANY_HOST = ""


def endpoints(kernel: Kernel, networks: dict[str, Network], boot_id: str) -> list[Endpoint]:
    """What the kernel shows of this node's pods; those on a bridge of nobody's are left out."""
    actual = kernel.observe()
    links = [o for o in actual.values() if isinstance(o, Link)]
    known = {bridge_name(network): name for name, network in networks.items()}  # adopted ones have no alias
    marked = [link for link in links if (link.alias or "").startswith(names.BRIDGE_ALIAS)]
    known |= {link.name: (link.alias or "").removeprefix(names.BRIDGE_ALIAS) for link in marked}
    found = []
    for link in links:
        whose = (link.alias or "").removeprefix(names.POD_ALIAS)
        if link.kind != "veth" or whose == link.alias or link.group == DOOMED_GROUP:
            continue
        network = known.get(link.master) if link.master else _routed_network(actual, link.name, networks)
        if network is None:
            continue
        container, _, ifname = whose.rpartition("/")
        one = Endpoint(
            container=container,
            ifname=ifname,
            network=network,
            addresses=(),
            host_link=link.name,
            bridge=link.master or "",
            mtu=link.mtu or 0,
            boot_id=boot_id,
            bandwidth=_bandwidth(actual, link.name, names.ifb_link(container, ifname)),
        )
        one = _from_inside(kernel, one) or _from_outside(actual, one)
        found.append(msgspec.structs.replace(one, ports=_ports(actual, one)))
    return found


class Inside(NamedTuple):
    """A pod's namespace: where it was found, which it is, and what is in it."""

    path: str
    identity: str
    objects: Actual


def inside_of(kernel: Kernel, host_link: str, ifname: str) -> Inside | None:
    """The namespace that the other end of a veth is in; None when nothing but a descriptor holds it."""
    index = kernel.rtnetlink.peer_of(host_link)
    for path, fd in _namespaces():
        try:
            if kernel.index_inside(fd, ifname) == index:
                return Inside(path, namespaces.identity(fd), kernel.observe_inside(fd))
        finally:
            os.close(fd)
    return None


def _from_inside(kernel: Kernel, endpoint: Endpoint) -> Endpoint | None:
    """With addresses, gateways and MAC as its namespace has them; None when that isn't found."""
    found = inside_of(kernel, endpoint.host_link, endpoint.ifname)
    if found is None:
        return None
    link = found.objects["link", endpoint.ifname]
    routes = [o for o in found.objects.values() if isinstance(o, Route) and o.dev == endpoint.ifname]
    return msgspec.structs.replace(
        endpoint,
        addresses=addresses_on(found.objects, endpoint.ifname),
        gateways=tuple(r.via for r in routes if r.dst in DEFAULT_ROUTES.values() and r.via),
        mac=link.mac if isinstance(link, Link) else "",
        namespace=found.path,
        namespace_id=found.identity,
    )


def addresses_on(inside: Actual, ifname: str) -> tuple[str, ...]:
    """With prefix length, IPv4 first, without what the kernel gave by itself."""
    found = [o.address for o in inside.values() if isinstance(o, Address) and o.link == ifname]
    return tuple(sorted((a for a in found if not a.startswith("fe80:")), key=lambda a: (family_of(a), a)))


def _host_routes(actual: Actual, link: str) -> tuple[str, ...]:
    """The addresses of a routed pod: what is routed over its link."""
    routes = [o.dst for o in actual.values() if isinstance(o, Route) and o.dev == link]
    return tuple(sorted(routes, key=lambda dst: (family_of(dst), dst)))


def _routed_network(actual: Actual, link: str, networks: dict[str, Network]) -> str | None:
    """The network in whose pools a routed pod's addresses are."""
    for dst in _host_routes(actual, link):
        for name, network in networks.items():
            prefixes = [ipaddress.ip_network(pool.cidr) for pool in network.spec.pools]
            if any(ipaddress.ip_interface(dst).ip in prefix for prefix in prefixes):
                return name
    return None


def _from_outside(actual: Actual, endpoint: Endpoint) -> Endpoint:
    """From the host routes, or the sets of allowed senders with the prefix length of the gateway's block."""
    if not endpoint.bridge:
        return msgspec.structs.replace(endpoint, addresses=_host_routes(actual, endpoint.host_link))
    own = [
        o
        for o in actual.values()
        if isinstance(o, NftElement) and o.family == "bridge" and o.value[0] == endpoint.host_link
    ]
    addresses = [o.value[2] for o in own if o.set in ("sources4", "sources6")]
    blocks = [
        ipaddress.ip_interface(o.address).network
        for o in actual.values()
        if isinstance(o, Address) and o.link == endpoint.bridge
    ]
    return msgspec.structs.replace(
        endpoint,
        addresses=tuple(
            f"{address}/{block.prefixlen}"
            for address in addresses
            for block in blocks
            if ipaddress.ip_address(address) in block and not address.startswith("fe80:")
        ),
        mac=next((o.value[1] for o in own if o.set == "macs"), ""),
    )


def _namespaces() -> Iterator[tuple[str, int]]:
    """(Path, descriptor) of every network namespace that a mount or a process holds, each once."""
    seen: set[str] = set()
    with open("/proc/self/mountinfo") as mounts:
        paths = [line.split()[4] for line in mounts if " nsfs " in line]
    for path in [*paths, *(str(process / "ns/net") for process in Path("/proc").glob("[0-9]*"))]:
        with contextlib.suppress(OSError):
            fd = namespaces.open_namespace(path)
            identity = namespaces.identity(fd)
            if identity in seen:
                os.close(fd)
                continue
            seen.add(identity)
            yield path, fd


def _ports(actual: Actual, endpoint: Endpoint) -> tuple[PortMap, ...]:
    own = {address.partition("/")[0] for address in endpoint.addresses}
    found = {
        PortMap(
            host_ip=o.value[0] if o.set.startswith("host") else ANY_HOST,
            protocol=o.value[-2],  # type: ignore[arg-type]
            host_port=int(o.value[-1]),
            container_port=int(o.data[1]),
        )
        for o in actual.values()
        if isinstance(o, NftElement) and "ports" in o.set and o.data and o.data[0] in own
    }
    return tuple(sorted(found, key=lambda p: (p.host_port, p.protocol, p.host_ip)))


def _bandwidth(actual: Actual, link: str, ifb: str) -> Bandwidth:
    down, up = actual.get(("qdisc", link, "root")), actual.get(("qdisc", ifb, "root"))
    rates: dict[str, int] = {}
    for name, bucket in (("ingress", down), ("egress", up)):
        if isinstance(bucket, Qdisc) and bucket.kind == "tbf":
            rates[f"{name}_rate"] = bucket.rate or 0
            rates[f"{name}_burst"] = (bucket.burst or 0) * 8
    return Bandwidth(**rates)

"""Published ports: an element per port in one map per family, looked up once per new connection.

A port that is published on one address of the node has its own map, because a key can't hold "any".
Published on all addresses, a port is reached from outside, from the node itself (127.0.0.1 too, but
not [::1]: the kernel routes no loopback IPv6 packet off the loopback link), from the pod itself and from
its neighbours.
"""

from __future__ import annotations

from podway.model.objects import NftChain, NftElement, NftRule, NftSet, Sysctl, family_of
from podway.model.resources import PortMap

FAMILY = "inet"
DSTNAT = -100  # NF_IP_PRI_NAT_DST
RAW = -300  # NF_IP_PRI_RAW

_RULES = (
    NftRule(
        "fib daddr type local dnat ip to ip daddr . meta l4proto . th dport map @hostports4",
        "port published on this address",
    ),
    NftRule("fib daddr type local dnat ip to meta l4proto . th dport map @ports4", "published port"),
    NftRule(
        "ip6 daddr != ::1 fib daddr type local "
        "dnat ip6 to ip6 daddr . meta l4proto . th dport map @hostports6",
        "port published on this address",
    ),
    NftRule(
        "ip6 daddr != ::1 fib daddr type local dnat ip6 to meta l4proto . th dport map @ports6",
        "published port",
    ),
)


def _map(name: str, address: str, by_host: bool) -> NftSet:
    key = ("inet_proto", "inet_service")
    return NftSet(
        family=FAMILY,
        name=name,
        type=(address, *key) if by_host else key,
        data=(address, "inet_service"),
    )


_STRUCTURE = (
    _map("ports4", "ipv4_addr", False),
    _map("ports6", "ipv6_addr", False),
    _map("hostports4", "ipv4_addr", True),
    _map("hostports6", "ipv6_addr", True),
    NftChain(family=FAMILY, name="prerouting", type="nat", hook="prerouting", priority=DSTNAT, rules=_RULES),
    NftChain(family=FAMILY, name="output", type="nat", hook="output", priority=DSTNAT, rules=_RULES),
    NftChain(
        family=FAMILY,
        name="raw",
        hook="prerouting",
        priority=RAW,
        rules=(
            NftRule(
                'ip daddr 127.0.0.0/8 iifname != "lo" counter drop',
                "route_localnet lets 127.0.0.1 use published ports; nobody else may use 127.0.0.1",
            ),
        ),
    ),
)


def structure() -> tuple[NftSet | NftChain, ...]:
    """Maps and chains, the same on every node."""
    return _STRUCTURE


def sysctls(bridge: str) -> tuple[Sysctl, ...]:
    """What published ports need of the link to the pods."""
    # Without it a packet from 127.0.0.1 to a pod is dropped as martian.
    return (Sysctl(path=f"net/ipv4/conf/{bridge}/route_localnet", value="1"),)


def endpoint(ports: tuple[PortMap, ...], addresses: tuple[str, ...]) -> tuple[NftElement, ...]:
    """The elements of one pod's ports, for each of its addresses of the port's family."""
    elements = []
    for port in ports:
        for address in addresses:
            family = family_of(address)
            if port.host_ip and family_of(port.host_ip) != family:
                continue
            unspecific = port.host_ip in ("", "0.0.0.0", "::")
            key = (port.protocol, str(port.host_port))
            elements.append(
                NftElement(
                    family=FAMILY,
                    set=f"ports{family}" if unspecific else f"hostports{family}",
                    value=key if unspecific else (port.host_ip, *key),
                    data=(address.partition("/")[0], str(port.container_port)),
                )
            )
    return tuple(elements)

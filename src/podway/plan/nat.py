"""Masquerade what leaves the cluster, once, at the node; and nothing else.

Not pod to pod, not pod to node (whose own address is in ``nodes``), not multicast. One flat hash set of
the pods that are masqueraded; the cluster's prefixes are few and are the only interval set.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from podway.model.objects import NftChain, NftElement, NftRule, NftSet, family_of

FAMILY = "inet"
SRCNAT = 100  # NF_IP_PRI_NAT_SRC

_STRUCTURE = (
    NftSet(family=FAMILY, name="masquerade4", type=("ipv4_addr",)),
    NftSet(family=FAMILY, name="masquerade6", type=("ipv6_addr",)),
    NftSet(family=FAMILY, name="leaving4", type=("ipv4_addr",)),
    NftSet(family=FAMILY, name="leaving6", type=("ipv6_addr",)),
    NftSet(family=FAMILY, name="within4", type=("ipv4_addr", "ipv4_addr"), interval=True),
    NftSet(family=FAMILY, name="within6", type=("ipv6_addr", "ipv6_addr"), interval=True),
    NftSet(family=FAMILY, name="callers4", type=("ipv4_addr", "ipv4_addr"), interval=True),
    NftSet(family=FAMILY, name="callers6", type=("ipv6_addr", "ipv6_addr"), interval=True),
    NftSet(family=FAMILY, name="called4", type=("ipv4_addr",)),
    NftSet(family=FAMILY, name="called6", type=("ipv6_addr",)),
    NftSet(family=FAMILY, name="cluster4", type=("ipv4_addr",), interval=True),
    NftSet(family=FAMILY, name="cluster6", type=("ipv6_addr",), interval=True),
    NftSet(family=FAMILY, name="nodes4", type=("ipv4_addr",)),
    NftSet(family=FAMILY, name="nodes6", type=("ipv6_addr",)),
    NftSet(family=FAMILY, name="neighbours4", type=("ifname", "ipv4_addr")),
    NftSet(family=FAMILY, name="neighbours6", type=("ifname", "ipv6_addr")),
    NftChain(
        family=FAMILY,
        name="postrouting",
        type="nat",
        hook="postrouting",
        priority=SRCNAT,
        rules=(
            # by source, not by incoming link: with br_netfilter a bridged packet has none here
            NftRule(
                "ct status dnat oifname . ip saddr @neighbours4 masquerade fully-random",
                "published port used from the same bridge: the answer must come back here",
            ),
            NftRule(
                "ct status dnat oifname . ip6 saddr @neighbours6 masquerade fully-random",
                "published port used from the same bridge: the answer must come back here",
            ),
            NftRule(
                "ct status dnat ip daddr . ip saddr @callers4 masquerade fully-random",
                "published port whose answer must come back here (snat)",
            ),
            NftRule(
                "ct status dnat ip6 daddr . ip6 saddr @callers6 masquerade fully-random",
                "published port whose answer must come back here (snat)",
            ),
            NftRule(
                "ct status dnat ip daddr @called4 masquerade fully-random",
                "published port whose every answer must come back here (masqAll)",
            ),
            NftRule(
                "ct status dnat ip6 daddr @called6 masquerade fully-random",
                "published port whose every answer must come back here (masqAll)",
            ),
            NftRule(
                "ct status dnat ip saddr 127.0.0.0/8 masquerade fully-random",
                "published port used by 127.0.0.1, which a pod can't answer",
            ),
            NftRule(
                "ip saddr @masquerade4 ip daddr != @cluster4 ip daddr != @nodes4 "
                "ip daddr != 224.0.0.0/4 fib daddr type != broadcast masquerade fully-random",
                "a pod's packet leaves the cluster",
            ),
            NftRule(
                "ip6 saddr @masquerade6 ip6 daddr != @cluster6 ip6 daddr != @nodes6 "
                "ip6 daddr != ff00::/8 masquerade fully-random",
                "a pod's packet leaves the cluster",
            ),
            NftRule(
                "ip saddr @leaving4 ip saddr . ip daddr != @within4 ip daddr != 224.0.0.0/4 "
                "masquerade fully-random",
                "a packet leaves its pod's subnet (ipMasq)",
            ),
            NftRule(
                "ip6 saddr @leaving6 ip6 saddr . ip6 daddr != @within6 ip6 daddr != ff00::/8 "
                "masquerade fully-random",
                "a packet leaves its pod's subnet (ipMasq)",
            ),
        ),
    ),
)


def structure() -> tuple[NftSet | NftChain, ...]:
    """Sets and the chain, the same on every node."""
    return _STRUCTURE


def _elements(name: str, values: Iterable[str]) -> tuple[NftElement, ...]:
    return tuple(
        NftElement(family=FAMILY, set=f"{name}{family_of(value)}", value=(value,)) for value in values
    )


def endpoint(addresses: tuple[str, ...]) -> tuple[NftElement, ...]:
    """A pod whose packets to the world are masqueraded."""
    return _elements("masquerade", (address.partition("/")[0] for address in addresses))


def leaving(addresses: tuple[str, ...]) -> tuple[NftElement, ...]:
    """A pod of which all is masqueraded that leaves the subnet of ``addresses`` (with prefix length)."""
    subnets = [str(ipaddress.ip_interface(address).network) for address in addresses]
    within = (
        NftElement(family=FAMILY, set=f"within{family_of(subnet)}", value=(subnet, subnet))
        for subnet in subnets
    )
    return (*within, *_elements("leaving", (address.partition("/")[0] for address in addresses)))


def callers(masked: Iterable[tuple[str, str]]) -> tuple[NftElement, ...]:
    """Of (pod's address, prefix) pairs: who uses the pod's published ports from the prefix is masqueraded.

    Everybody has a set without intervals: among them he would overlap what else is said of the pod."""
    return tuple(
        NftElement(family=FAMILY, set=f"called{family_of(address)}", value=(address,))
        if prefix.endswith("/0")
        else NftElement(
            family=FAMILY,
            set=f"callers{family_of(address)}",
            value=(str(ipaddress.ip_network(address)), str(ipaddress.ip_network(prefix))),
        )
        for address, prefix in masked
    )


def cluster(prefixes: tuple[str, ...]) -> tuple[NftElement, ...]:
    """Destinations that see a pod's own address."""
    return _elements("cluster", (str(ipaddress.ip_network(prefix)) for prefix in prefixes))


def nodes(addresses: tuple[str, ...]) -> tuple[NftElement, ...]:
    """Addresses of nodes, which see a pod's own address too."""
    return _elements("nodes", addresses)


def neighbour(bridge: str, addresses: tuple[str, ...]) -> tuple[NftElement, ...]:
    """A pod that shares ``bridge`` with the pods whose published ports it may use."""
    return tuple(
        NftElement(
            family=FAMILY, set=f"neighbours{family_of(address)}", value=(bridge, address.partition("/")[0])
        )
        for address in addresses
    )

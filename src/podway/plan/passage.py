"""Pods' way through firewalls of other software: what ``spec.firewall: manage`` puts into their chains.

In nftables an accept in one chain doesn't save a packet from a drop in another, so a pass stands in each
chain that drops (``facts.gates``). It is of prefixes and not of links: with br_netfilter on, packets within
a bridge come by too, and a published port's packet comes from anywhere.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from podway.model.dropin import Passed, Piece
from podway.model.gate import Passage, Where
from podway.model.objects import family_of
from podway.model.resources import Network, NodeFacts

#: nftables families of chains → of the packets they see
SEES = {"ip": (4,), "ip6": (6,), "inet": (4, 6)}


def network(network: Network, facts: NodeFacts) -> tuple[Passage, ...]:
    """What lets the pods of a network through, () where it isn't asked for."""
    if network.spec.firewall != "manage":
        return ()
    return through((pool.cidr for pool in network.spec.pools), facts)


def piece(piece: Piece, facts: NodeFacts) -> tuple[Passage, ...]:
    """What the plugin ``firewall`` lets through of a pod: all that it sends, and the answers."""
    if not isinstance(piece.want, Passed):
        return ()
    hosts = [str(ipaddress.ip_network(address)) for address in piece.want.addresses]
    return (*before(hosts, piece.want.first, facts), *through(hosts, facts, ("saddr", "answers")))


def before(prefixes: Iterable[str], chain: str, facts: NodeFacts) -> tuple[Passage, ...]:
    """The ways of ``prefixes`` through a chain of iptables, () without one: whether anything drops or not,
    for that chain may."""
    return tuple(
        Passage(where=forward(family_of(prefix), facts), side=side, prefix=prefix, first=chain)
        for prefix in prefixes
        for side in ("saddr", "daddr")
        if chain
    )


def forward(family: int, facts: NodeFacts) -> Where:
    """iptables' chain FORWARD: iptables-legacy's where that is what drops."""
    name = "ip" if family == 4 else "ip6"
    legacy = Where("iptables-legacy", name, "filter", "FORWARD")
    drops = any(gate.where == legacy for gate in facts.gates)
    return legacy if drops else Where("nftables", name, "filter", "FORWARD")


def through(
    prefixes: Iterable[str], facts: NodeFacts, sides: Iterable[str] = ("saddr", "daddr")
) -> tuple[Passage, ...]:
    """Passes of ``prefixes`` in every chain that drops what is forwarded."""
    return tuple(
        Passage(where=gate.where, side=side, prefix=prefix)
        for prefix in prefixes
        for gate in facts.gates
        if family_of(prefix) in SEES[gate.where.family]
        for side in sides
    )

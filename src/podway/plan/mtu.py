"""The MTU of a network's pods: a fold over the uplinks, less what the transport adds; and while it changes,
over what the nodes say of theirs.

It changes like a way does (``generation``): a pod sends larger packets only once every node tells that they
reach its pods, and pods' links shrink only once nobody tells of sending larger ones. Until then the routes in
the pods carry the smaller value.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from podway.model.objects import family_of
from podway.model.resources import Network, NetworkSpec, NodeFacts, Paths, Transport, Uplink
from podway.model.validation import LEAST_MTU
from podway.plan.notes import Note
from podway.plan.way import Way, by_family, parse, wanted

DEFAULT = 1500  # no uplink: Ethernet's

#: bytes that VXLAN puts around a packet (RFC 7348 section 5): outer IP, UDP, VXLAN, inner Ethernet
VXLAN_OVERHEAD = {4: 20 + 8 + 8 + 14, 6: 40 + 8 + 8 + 14}


#: bytes around a packet that travels in another: an IP header (RFC 2003, RFC 2473)
IPIP_OVERHEAD = {4: 20, 6: 40}

#: the same for WireGuard: outer IP, UDP, the header of a data message, and its authentication tag
WIREGUARD_OVERHEAD = {4: 20 + 8 + 16 + 16, 6: 40 + 8 + 16 + 16}

_OVERHEADS: dict[Transport, dict[int, int]] = {
    "vxlan": VXLAN_OVERHEAD,
    "ipip": IPIP_OVERHEAD,
    "wireguard": WIREGUARD_OVERHEAD,
}


def overhead(way: Way) -> int:
    """Bytes that a way puts around a packet."""
    return _OVERHEADS[way.transport][way.underlay] if way.transport in _OVERHEADS else 0


def of_way(network: Network, way: Way, facts: NodeFacts) -> int:
    """What ``mtu`` says, or the smallest MTU of the uplinks that carry the way, less its overhead."""
    if network.spec.mtu != "auto":
        return network.spec.mtu
    return min((uplink.mtu for uplink in _carrying(way, facts)), default=DEFAULT) - overhead(way)


def _carrying(way: Way, facts: NodeFacts) -> Iterable[Uplink]:
    """A tunnel begins at the node's own address, on one uplink; other packets may take any."""
    own = next((a for a in facts.addresses if family_of(a) == way.underlay), "")
    return [uplink for uplink in facts.uplinks if own in uplink.addresses] or facts.uplinks


def too_small(network: Network, facts: NodeFacts) -> Note | None:
    """Why the pods' IPv6 can't work."""
    least = LEAST_MTU[6]
    if effective(network, facts) >= least or all(family_of(pool.cidr) == 4 for pool in network.spec.pools):
        return None
    reason = f"pods get an MTU of {effective(network, facts)}, and IPv6 needs {least}"
    return Note(f"network {network.name}", reason, "raise the uplink's MTU, or take the IPv6 pool out")


def effective(network: Network, facts: NodeFacts) -> int:
    """What pods of the network get once nothing changes any more: the least of the ways used at once."""
    return min(of_way(network, way, facts) for way in _wanted(network.spec))


def _wanted(spec: NetworkSpec) -> tuple[Way, ...]:
    return by_family(spec) or (wanted(spec),)


def most_overhead(spec: NetworkSpec) -> int:
    """What the ways that a network declares put around a packet at most."""
    return max(map(overhead, _wanted(spec)))


class Size(NamedTuple):
    """Now: MTU of pods' links, and of their routes (the same when the routes need none of their own).

    ``least``: what pods' links may shrink to as far as the others go."""

    links: int
    routes: int
    least: int


def generation(network: Network) -> str:
    """The settings that an MTU follows from."""
    return f"{network.spec.mtu} {wanted(network.spec).text}"


def has_settled(paths: Paths, network: Network) -> bool:
    """Whether a node has reached what it is to reach under the network's settings."""
    said = paths.sizes
    if said is None:
        return True
    return said.generation == generation(network) and said.sends == paths.mtu == said.target


def now(network: Network, facts: NodeFacts, own: Paths | None, said: Iterable[Paths], links: int) -> Size:
    """``own`` and ``said`` are what this node and the others told; ``links``: the largest that pods have.

    A node that has reached what it is to reach under the same settings is not waited for: nodes with other
    uplinks have other MTUs for good."""
    target, settings = effective(network, facts), generation(network)
    mine = own.sizes if own is not None else None
    if own is None or mine is None:
        return Size(target, target, target)
    theirs = [(paths.mtu, paths.sizes) for paths in said if paths.sizes is not None]
    unlowered = [s.sends for _, s in theirs if s.generation != settings or s.sends > s.target]
    unraised = [accepts for accepts, s in theirs if s.generation != settings or accepts < s.target]
    ways = [way for text in own.sends if (way := parse(text)) is not None]
    carried = [of_way(network, way, facts) for way in ways]
    least = max([target, *(min(size, links) for size in unlowered)])
    return Size(
        links=max(least, min(own.mtu, links)),
        routes=min([target, mine.sends, own.mtu, *unraised, *carried]),
        least=least,
    )

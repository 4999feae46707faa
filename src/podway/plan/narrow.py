"""Where a peer can be sent less than this node's pods may send: the route says so, and where neither
end's pods know it, TCP is told.

Packets too large for a route's MTU are answered by this node itself with "fragmentation needed" (RFC 1191,
RFC 8201), so that a peer with smaller links (nodes of mixed MTUs) or a hole that probes found on the way
costs no black hole. TCP learns the smaller of both ends' MTUs by itself; only of a hole does neither end
know. There, and nowhere else, the MSS of connections is clamped.
"""

from __future__ import annotations

import msgspec

from podway.model.objects import AnyObject, NftChain, NftElement, NftRule, NftSet, Route, family_of
from podway.model.resources import Block, Network, Node, NodeFacts
from podway.model.validation import LEAST_MTU
from podway.plan import mtu
from podway.plan.way import Way

FAMILY = "inet"
MANGLE = -150  # NF_IP_PRI_MANGLE
HEADERS = {4: 20 + 20, 6: 40 + 20}  # bytes of IP and TCP headers without options
MATCH = {4: "ip", 6: "ip6"}

#: node → "NETWORK/FAMILY" → bytes of the largest packet that probes found to pass
Holes = dict[str, dict[str, int]]


def hole(holes: Holes, node: str, network: str, family: int) -> int:
    """What was found for a peer's blocks of a family, 0 where there is no hole."""
    return holes.get(node, {}).get(f"{network}/{family}", 0)


def path_mtu(own: int, network: str, node: Node) -> int:
    """What should pass to a peer: no more than this node can send, nor than the peer's pods take."""
    theirs = node.paths[network].mtu if network in node.paths else 0
    return min(own, theirs) if theirs else own


def narrowed(
    objects: tuple[AnyObject, ...],
    block: Block,
    network: Network,
    way: Way,
    node: Node,
    facts: NodeFacts,
    holes: Holes,
) -> tuple[AnyObject, ...]:
    """The objects of a peer's block, with what a narrower path needs."""
    own = min(mtu.effective(network, facts), mtu.of_way(network, way, facts))
    expected = path_mtu(own, network.name, node)
    found = hole(holes, node.name, network.name, family_of(block.cidr))
    passes = min(expected, found) if found else expected
    if passes >= own:
        return objects
    said = max(passes, LEAST_MTU[6]) if family_of(block.cidr) == 6 else passes
    made = [msgspec.structs.replace(o, mtu=said) if isinstance(o, Route) else o for o in objects]
    if passes < expected:
        made += _clamp(block.cidr, passes)
    return tuple(made)


def _clamp(cidr: str, passes: int) -> tuple[AnyObject, ...]:
    """Blocks behind holes of one size share a chain, which lives while any of them wants it."""
    family = family_of(cidr)
    name = f"narrow{family}-{passes}"
    clamp = f"tcp flags & (syn | rst) == syn tcp option maxseg size set {passes - HEADERS[family]}"
    # Both ways: what the SYN says bounds what is sent to its sender.
    rules = tuple(
        NftRule(f"{MATCH[family]} {end} @{name} {clamp}", f"packets over {passes} bytes vanish on this path")
        for end in ("saddr", "daddr")
    )
    return (
        NftSet(family=FAMILY, name=name, type=(f"ipv{family}_addr",), interval=True),
        NftElement(family=FAMILY, set=name, value=(cidr,)),
        NftChain(family=FAMILY, name=name, rules=rules, hook="forward", priority=MANGLE),
    )

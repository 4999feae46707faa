"""transport: host-gw. One route to each peer's block via the peer, proved to be on the same segment."""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

from podway.model.objects import Route, family_of
from podway.model.resources import Block, Node, NodeFacts
from podway.plan.attach.pod import IPV6_METRIC
from podway.plan.notes import Note

CROSSING = "use a transport that crosses routers (vxlan, ipip or bgp)"


class Hop(NamedTuple):
    """A peer's address ``via`` on the segment of uplink ``dev``, where this node has ``source``."""

    via: str = ""
    dev: str = ""
    source: str = ""
    obstacle: str = ""
    fix: str = ""


def next_hop(family: int, node: Node, facts: NodeFacts) -> Hop:
    """Where a peer could be reached directly, or the obstacle to it."""
    via = node.address(family)
    if not via:
        return Hop(obstacle=f"the node has no IPv{family} address", fix="give the node one")
    target = ipaddress.ip_address(via)
    for uplink in facts.uplinks:
        for own in map(ipaddress.ip_interface, uplink.addresses):
            if target in own.network:
                return Hop(via, uplink.name, str(own.ip))
    reason = f"{via} is not on-link: no uplink of {facts.name} has an address on its segment"
    return Hop(obstacle=reason, fix=CROSSING)


def peer_block(block: Block, node: Node, facts: NodeFacts) -> tuple[tuple[Route, ...], tuple[Note, ...]]:
    """The route to one block of a peer, or the reason why there is none."""
    family = family_of(block.cidr)
    hop = next_hop(family, node, facts)
    if hop.obstacle:
        return (), (Note(f"peer {node.name} block {block.cidr}", hop.obstacle, hop.fix),)
    metric = IPV6_METRIC if family == 6 else 0
    return (Route(dst=block.cidr, via=hop.via, dev=hop.dev, metric=metric),), ()

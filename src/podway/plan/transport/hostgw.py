"""transport: host-gw. One route to each peer's block via the peer, which must be on the same segment."""

from __future__ import annotations

import ipaddress

from podway.model.objects import Route, family_of
from podway.model.resources import Block, Node, NodeFacts
from podway.plan.attach.pod import IPV6_METRIC
from podway.plan.notes import Note


def _on_link(address: str, facts: NodeFacts) -> str:
    """The uplink on whose segment ``address`` lies, or ""."""
    target = ipaddress.ip_address(address)
    for uplink in facts.uplinks:
        if any(target in ipaddress.ip_interface(own).network for own in uplink.addresses):
            return uplink.name
    return ""


def peer_block(block: Block, node: Node, facts: NodeFacts) -> tuple[tuple[Route, ...], tuple[Note, ...]]:
    """The route to one block of a peer, or the reason why there is none."""
    family = family_of(block.cidr)
    subject = f"peer {node.name} block {block.cidr}"
    via = next((a.partition("/")[0] for a in node.spec.addresses if family_of(a) == family), "")
    if not via:
        return (), (Note(subject, f"the node has no IPv{family} address", "give the node one"),)
    dev = _on_link(via, facts)
    if not dev:
        reason = f"{via} is not on-link: no uplink of {facts.name} has an address on its segment"
        return (), (Note(subject, reason, "use a transport that crosses routers (vxlan, ipip or bgp)"),)
    metric = IPV6_METRIC if family == 6 else 0
    return (Route(dst=block.cidr, via=via, dev=dev, metric=metric),), ()

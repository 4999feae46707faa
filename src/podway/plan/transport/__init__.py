"""How nodes carry each other's pods: one file per transport, chosen here by the way that is taken."""

from __future__ import annotations

from podway.model.objects import AnyObject, Key, Sysctl
from podway.model.resources import Block, Network, Node, NodeFacts, Paths
from podway.plan.notes import Note
from podway.plan.path import ASKING, Chosen
from podway.plan.transport import hostgw, vxlan
from podway.plan.way import Way

Planned = tuple[tuple[AnyObject, ...], tuple[Note, ...]]


def loose(link: str) -> Sysctl:
    """``rp_filter`` 2: each direction goes by the way that its sender chose, strict would drop one."""
    return Sysctl(path=f"net/ipv4/conf/{link}/rp_filter", value="2")


def receiver(way: Way, facts: NodeFacts) -> tuple[Key, ...]:
    """What must stand, as far as it is planned, before peers may send this node by ``way``."""
    links = [vxlan.device_name(way)] if way.transport == "vxlan" else []
    loosened = [loose(name).key for name in (*links, *(uplink.name for uplink in facts.uplinks))]
    return (*(("link", name) for name in links), *loosened)


def ends(
    network: Network, held: tuple[Way, ...], told: Paths | None, own: Node | None, facts: NodeFacts
) -> Planned:
    """What this node needs once to take part in every way that it holds. ``told``: what it says of them."""
    objects: list[AnyObject] = []
    notes: list[Note] = []
    for way in held:
        if way.transport == "vxlan":
            planned, why = vxlan.device(network, way, told, own, facts)
            objects += planned
            notes += why
    if len(held) > 1:
        objects += [loose(uplink.name) for uplink in facts.uplinks]
    return tuple(objects), tuple(notes)


def own_block(block: Block, held: tuple[Way, ...], own: Node | None) -> tuple[AnyObject, ...]:
    """What one of this node's blocks needs on its tunnels."""
    return tuple(one for way in held if way.transport == "vxlan" for one in vxlan.own_block(block, way, own))


def peer_block(
    block: Block, way: Way, node: Node, own: Node | None, facts: NodeFacts, path: Chosen | None
) -> Planned:
    """How this node reaches one block of a peer; ``path`` says whether it is proved to be on-link."""
    if way.transport == "vxlan":
        return vxlan.peer_block(block, way, node) if vxlan.outer(own, way) else ((), ())
    if way.transport == "host-gw":
        hop = hostgw.peer_block(block, node, facts)
        if hop[1] or (path is not None and path.choice == "direct"):
            return hop
        subject = f"peer {node.name} block {block.cidr}"
        reason = path.reason if path else ASKING
        return (), (Note(subject, reason, "" if reason == ASKING else hostgw.CROSSING),)
    return (), ()

"""How nodes carry each other's pods: one file per transport, chosen here by the way that is taken."""

from __future__ import annotations

from podway.model.objects import AnyObject, Key, Sysctl
from podway.model.resources import Block, Network, Node, NodeFacts
from podway.plan.notes import Note
from podway.plan.transport import hostgw, vxlan
from podway.plan.way import Way

Planned = tuple[tuple[AnyObject, ...], tuple[Note, ...]]


def receiver(way: Way) -> tuple[Key, ...]:
    """What must stand before peers may send this node by ``way``."""
    return (("link", vxlan.device_name(way)),) if way.transport == "vxlan" else ()


def ends(network: Network, held: tuple[Way, ...], own: Node | None, facts: NodeFacts) -> Planned:
    """What this node needs once to take part in every way that it holds."""
    objects: list[AnyObject] = []
    notes: list[Note] = []
    for way in held:
        if way.transport == "vxlan":
            planned, why = vxlan.device(network, way, own, facts)
            objects += planned
            notes += why
    if len(held) > 1:
        # While two ways stand, a peer may send by the one that this node doesn't: strict would drop it.
        objects += [
            Sysctl(path=f"net/ipv4/conf/{uplink.name}/rp_filter", value="2") for uplink in facts.uplinks
        ]
    return tuple(objects), tuple(notes)


def own_block(block: Block, held: tuple[Way, ...], own: Node | None) -> tuple[AnyObject, ...]:
    """What one of this node's blocks needs on its tunnels."""
    return tuple(one for way in held if way.transport == "vxlan" for one in vxlan.own_block(block, way, own))


def peer_block(block: Block, way: Way, node: Node, own: Node | None, facts: NodeFacts) -> Planned:
    """How this node reaches one block of a peer."""
    if way.transport == "vxlan":
        return vxlan.peer_block(block, way, node) if vxlan.outer(own, way) else ((), ())
    if way.transport == "host-gw":
        return hostgw.peer_block(block, node, facts)
    return (), ()

"""How nodes carry each other's pods: one file per transport, chosen here by the way that is taken."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from podway.model.objects import AnyObject, Key, Link, family_of
from podway.model.resources import Block, Network, Node, NodeFacts, Paths, Transport
from podway.plan.notes import Note
from podway.plan.path import ASKING, Chosen
from podway.plan.transport import hostgw, ipip, vxlan, wireguard
from podway.plan.transport.tunnel import Carriage, Planned, loose, outer, presence
from podway.plan.way import Way

Met = tuple[str, str]  # a WireGuard link, and the public key of a peer that a handshake was made with


class Tunnel(Protocol):
    """What a file has to say of a transport that carries packets inside others.

    ``SHARED``: whether its device is one for all networks, whose wants are then put together."""

    SHARED: bool

    def device_name(self, way: Way) -> str:
        """The link that a way's packets come and go by."""

    def carriage(self, link: Link) -> Carriage | None:
        """What a link puts around packets; None for one of another kind."""

    def device(
        self, network: Network, way: Way, told: Paths | None, node: Node | None, facts: NodeFacts
    ) -> Planned:
        """This node's end, or why it can't have one. ``told``: what it says of the network's ways."""

    def own_block(self, block: Block, way: Way, node: Node | None) -> tuple[AnyObject, ...]:
        """What one of this node's blocks needs on the device."""

    def peer_block(self, block: Block, way: Way, node: Node, own: Node | None) -> Planned:
        """How one block of a peer is reached, or why it isn't; nothing where this node has no end."""


TUNNELS: dict[Transport, Tunnel] = {"vxlan": vxlan, "ipip": ipip, "wireguard": wireguard}


def carriage(link: Link) -> Carriage | None:
    """What a tunnel's device puts around packets; None for any other link."""
    return next((found for one in TUNNELS.values() if (found := one.carriage(link))), None)


def receiver(way: Way, facts: NodeFacts) -> tuple[Key, ...]:
    """What must stand, as far as it is planned, before peers may send this node by ``way``."""
    links = [TUNNELS[way.transport].device_name(way)] if way.transport in TUNNELS else []
    loosened = [loose(name).key for name in (*links, *(uplink.name for uplink in facts.uplinks))]
    return (*((kind, name) for name in links for kind in ("link", "wgdevice")), *loosened)


def ends(
    network: Network, held: tuple[Way, ...], told: Paths | None, own: Node | None, facts: NodeFacts
) -> Planned:
    """What this node needs once to take part in every way that it holds. ``told``: what it says of them.

    Of a device that networks share only what stands in its way is said: ``shared`` has the device."""
    objects: list[AnyObject] = []
    notes: list[Note] = []
    for way in held:
        if way.transport in TUNNELS:
            tunnel = TUNNELS[way.transport]
            planned, why = tunnel.device(network, way, told, own, facts)
            objects += () if tunnel.SHARED else planned
            notes += why
    if len(held) > 1:
        objects += [loose(uplink.name) for uplink in facts.uplinks]
    return tuple(objects), tuple(notes)


def shared(
    users: Iterable[tuple[Network, Way, Paths | None]], own: Node | None, facts: NodeFacts
) -> tuple[AnyObject, ...]:
    """The devices that several networks use at once, as large as the one that asks for most."""
    found: dict[Key, AnyObject] = {}
    for network, way, told in users:
        if way.transport not in TUNNELS or not TUNNELS[way.transport].SHARED:
            continue
        for one in TUNNELS[way.transport].device(network, way, told, own, facts)[0]:
            before = found.get(one.key)
            larger = isinstance(one, Link) and isinstance(before, Link) and (one.mtu or 0) > (before.mtu or 0)
            if before is None or larger:
                found[one.key] = one
    return tuple(found[key] for key in sorted(found))


def own_block(block: Block, held: tuple[Way, ...], own: Node | None) -> tuple[AnyObject, ...]:
    """What one of this node's blocks needs on its tunnels."""
    ways = [way for way in held if way.transport in TUNNELS]
    if block.borrowed:
        ends = (
            [way for way in ways if outer(own, way) and way.carries(4)] if family_of(block.cidr) == 4 else []
        )
        return tuple(presence(TUNNELS[way.transport].device_name(way)) for way in ends)
    return tuple(one for way in ways for one in TUNNELS[way.transport].own_block(block, way, own))


def known(block: Block, held: tuple[Way, ...], node: Node, own: Node | None) -> tuple[AnyObject, ...]:
    """What a peer's block needs so that the peer can send this node by each way that it holds."""
    ways = (way for way in held if way.transport == "wireguard")
    return tuple(one for way in ways for one in wireguard.known(block, way, node, own))


def meeting(block: Block, way: Way, node: Node) -> Met | None:
    """What has to have met before a peer may be sent by ``way`` where another leads there; None: nothing."""
    if way.transport != "wireguard":
        return None
    return wireguard.device_name(way), wireguard.public_key(node, block.spec.network, way)


def peer_block(
    block: Block, way: Way, node: Node, own: Node | None, facts: NodeFacts, path: Chosen | None
) -> Planned:
    """How this node reaches one block of a peer; ``path`` says whether it is proved to be on-link."""
    if way.transport in TUNNELS:
        return TUNNELS[way.transport].peer_block(block, way, node, own)
    if way.transport == "host-gw":
        hop = hostgw.peer_block(block, node, facts)
        if hop[1] or (path is not None and path.choice == "direct"):
            return hop
        subject = f"peer {node.name} block {block.cidr}"
        reason = path.reason if path else ASKING
        return (), (Note(subject, reason, "" if reason == ASKING else hostgw.CROSSING),)
    return (), ()

"""transport: wireguard. One device per way; per peer its key and where it is, per block a prefix and a route.

A prefix is one peer's, for sending and for taking: what a peer sends from another's block is dropped by the
kernel. So a node must know a peer before it is sent anything by it, and whether it does shows in a handshake
alone: where another way leads to the peer too, that is gone until one was made.
"""

from __future__ import annotations

from podway.model.objects import ALIAS_PREFIX, AnyObject, Link, Route, family_of
from podway.model.resources import Block, Network, Node, NodeFacts, Paths
from podway.model.wireguard import WgAllowed, WgDevice, WgPeer, WireguardOptions
from podway.plan import mtu
from podway.plan.attach.pod import IPV6_METRIC
from podway.plan.notes import Note
from podway.plan.transport import tunnel
from podway.plan.transport.tunnel import Carriage, Planned, address, lacking, loose, outer, size
from podway.plan.way import Way

SHARED = False
FIX = "give the node one, or set wireguard.underlay"
KEEPALIVE = 25  # seconds: it begins a handshake at once, and keeps what is on the way open for answers


def device_name(way: Way) -> str:
    """ "pww" and a hash."""
    return tunnel.device_name("pww", way)


def carriage(link: Link) -> Carriage | None:
    """Its UDP port, and WireGuard's header and tag."""
    if link.wireguard is None:
        return None
    underlay = link.wireguard.underlay
    return Carriage(f"UDP {link.wireguard.port}", mtu.WIREGUARD_OVERHEAD[underlay], underlay)


def public_key(node: Node, network: str, way: Way) -> str:
    """What a peer has published for a way, "" when it hasn't."""
    told = node.paths.get(network)
    return dict(told.keys).get(way.text, "") if told is not None else ""


def public_keys(node: Node) -> set[str]:
    """All that a peer has published."""
    return {key for told in node.paths.values() for _, key in told.keys}


def device(network: Network, way: Way, told: Paths | None, node: Node | None, facts: NodeFacts) -> Planned:
    """This node's end of the tunnel, or why it can't have one."""
    subject = f"network {network.name}"
    if not outer(node, way):
        return (), (lacking(subject, f"node {facts.name}", way, "from", FIX),)
    if way.text not in facts.keys:
        return (), (Note(subject, "this node has no key for it yet", "see whether its state can be written"),)
    name = device_name(way)
    link = Link(
        name=name,
        kind="wireguard",
        alias=f"{ALIAS_PREFIX}wireguard:{network.name}",
        mtu=size(network, way, told, facts),
        wireguard=WireguardOptions(port=way.port, underlay=way.underlay),
    )
    settings = WgDevice(link=name, public_key=facts.keys[way.text], port=way.port)
    return (link, settings, loose(name)), ()


def own_block(block: Block, way: Way, node: Node | None) -> tuple[AnyObject, ...]:
    """The address of the device, where there is one."""
    return (address(device_name(way), block),) if outer(node, way) else ()


def known(block: Block, way: Way, node: Node, own: Node | None) -> tuple[AnyObject, ...]:
    """A peer and one block of it, as soon as its key is known, whether it is sent by this way or not."""
    key, remote = public_key(node, block.spec.network, way), outer(node, way)
    if not (key and remote and outer(own, way)):
        return ()
    name = device_name(way)
    return (
        WgPeer(link=name, public_key=key, endpoint=remote, port=way.port, keepalive=KEEPALIVE),
        WgAllowed(link=name, prefix=block.cidr, peer=key),
    )


def peer_block(block: Block, way: Way, node: Node, own: Node | None) -> Planned:
    """The route to one block of a peer."""
    if not outer(own, way):
        return (), ()
    subject = f"peer {node.name} block {block.cidr}"
    if not outer(node, way):
        return (), (lacking(subject, "the node", way, "to", FIX),)
    if not public_key(node, block.spec.network, way):
        reason = f"the node has published no key for {way.text}"
        return (), (Note(subject, reason, "see its agent: its kernel may have no WireGuard"),)
    six = family_of(block.cidr) == 6
    scope, metric = ("global", IPV6_METRIC) if six else ("link", 0)
    return (Route(dst=block.cidr, dev=device_name(way), metric=metric, scope=scope),), ()

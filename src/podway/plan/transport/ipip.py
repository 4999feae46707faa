"""transport: ipip (RFC 2003; RFC 2473 for IPv6). A packet in a packet, with nothing but a second IP header.

Two ways, for the device of one family carries no packets of the other: IPv4 goes between the nodes' IPv4
addresses, IPv6 between their IPv6 ones. One device of each serves all networks, as a packet that arrives says
nothing of its network. A block's route says which node it is behind: in IPv4 as its next hop, in IPv6 as an
encapsulation, for there the kernel takes no next hop that is on another device's prefix (seen).

Whoever can send a node protocol 4 (IPv6: 41) could put any packet behind it. So only nodes may.
"""

from __future__ import annotations

from podway.model.objects import (
    ALIAS_PREFIX,
    AnyObject,
    IpTunnelOptions,
    Link,
    NftChain,
    NftElement,
    NftRule,
    NftSet,
    Route,
    family_of,
)
from podway.model.resources import Block, Network, Node, NodeFacts, Paths
from podway.plan import mtu
from podway.plan.attach.pod import IPV6_METRIC
from podway.plan.transport import tunnel
from podway.plan.transport.tunnel import Carriage, Planned, address, lacking, loose, outer, size
from podway.plan.way import Way

SHARED = True
FAMILY = "inet"
FIX = "give the node one, or take the pool of that family out"
PROTOCOL = {4: 4, 6: 41}  # IPPROTO_IPIP, IPPROTO_IPV6
KINDS = {4: "ipip", 6: "ip6tnl"}

_GUARD = (
    NftSet(family=FAMILY, name="tunnels4", type=("ipv4_addr",)),
    NftSet(family=FAMILY, name="tunnels6", type=("ipv6_addr",)),
    NftChain(
        family=FAMILY,
        name="tunnels",
        hook="input",
        rules=(
            NftRule(
                "meta l4proto 4 ip daddr @tunnels4 ip saddr != @nodes4 counter drop",
                "IP in IP from an address that is no node's",
            ),
            NftRule(
                "meta l4proto 41 ip6 daddr @tunnels6 ip6 saddr != @nodes6 counter drop",
                "IPv6 in IPv6 from an address that is no node's",
            ),
        ),
    ),
)


def device_name(way: Way) -> str:
    """ "pwi" and a hash."""
    return tunnel.device_name("pwi", way)


def carriage(link: Link) -> Carriage | None:
    """A second IP header."""
    family = next((family for family, kind in KINDS.items() if kind == link.kind), 0)
    return Carriage(f"protocol {PROTOCOL[family]}", mtu.IPIP_OVERHEAD[family], family) if family else None


def device(network: Network, way: Way, told: Paths | None, node: Node | None, facts: NodeFacts) -> Planned:
    """This node's end of the tunnel and its guard, or why it can't have one."""
    local = outer(node, way)
    if not local:
        return (), (lacking(f"network {network.name}", f"node {facts.name}", way, "from", FIX),)
    name = device_name(way)
    options = IpTunnelOptions(local=local) if way.underlay == 4 else IpTunnelOptions(external=True)
    link = Link(
        name=name,
        kind=KINDS[way.underlay],
        alias=f"{ALIAS_PREFIX}ipip:{way.underlay}",
        mtu=size(network, way, told, facts),
        iptunnel=options,
    )
    guarded = NftElement(family=FAMILY, set=f"tunnels{way.underlay}", value=(local,))
    return (*_GUARD, guarded, link, loose(name)), ()


def own_block(block: Block, way: Way, node: Node | None) -> tuple[AnyObject, ...]:
    """The address of the device, where there is one and it carries the block's family."""
    if not outer(node, way) or not way.carries(family_of(block.cidr)):
        return ()
    return (address(device_name(way), block),)


def peer_block(block: Block, way: Way, node: Node, own: Node | None) -> Planned:
    """The route to one block of a peer."""
    if not outer(own, way):
        return (), ()
    remote = outer(node, way)
    if not remote:
        return (), (lacking(f"peer {node.name} block {block.cidr}", "the node", way, "to", FIX),)
    name = device_name(way)
    if way.underlay == 6:
        return (Route(dst=block.cidr, dev=name, outer=remote, metric=IPV6_METRIC),), ()
    return (Route(dst=block.cidr, via=remote, dev=name, onlink=True),), ()

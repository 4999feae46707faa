"""transport: vxlan (RFC 7348). One device per way; per peer a forwarding entry, per block a route.

Nothing is learned and nothing is flooded: a permanent neighbour says which VTEP MAC a block's next hop has,
a forwarding entry which node has that MAC, and the route to the block goes via that next hop, on-link. A
VTEP's MAC follows from the network's and the node's name, so that it need not be told.
"""

from __future__ import annotations

from podway.model import names
from podway.model.objects import (
    ALIAS_PREFIX,
    AnyObject,
    Fdb,
    Link,
    Neighbour,
    Route,
    VxlanOptions,
    family_of,
)
from podway.model.resources import Block, Network, Node, NodeFacts, Paths
from podway.plan import mtu
from podway.plan.attach.pod import IPV6_METRIC
from podway.plan.transport import tunnel
from podway.plan.transport.tunnel import Carriage, Planned, address, inner, lacking, loose, outer, size
from podway.plan.way import Way

SHARED = False
FIX = "give the node one, or set vxlan.underlay"


def device_name(way: Way) -> str:
    """ "pwv" and a hash."""
    return tunnel.device_name("pwv", way)


def carriage(link: Link) -> Carriage | None:
    """Its UDP port, and RFC 7348's headers."""
    if link.vxlan is None:
        return None
    family = family_of(link.vxlan.local)
    return Carriage(f"UDP {link.vxlan.port}", mtu.VXLAN_OVERHEAD[family], family)


def vtep_mac(network: str, node: str) -> str:
    """The MAC of a node's VTEP, the same computed anywhere."""
    return names.mac("vtep", network, node)


def next_hop(cidr: str, mac: str) -> str:
    """Of an IPv4 block its .0; of an IPv6 one the link-local address of the VTEP's MAC.

    The kernel moves no IPv6 route to another device whose next hop lies in its own prefix (seen): it takes
    the route that stands for the way to that next hop."""
    if family_of(cidr) == 6:
        return names.link_local(mac)
    return inner(cidr)


def device(network: Network, way: Way, told: Paths | None, node: Node | None, facts: NodeFacts) -> Planned:
    """This node's end of the tunnel, or why it can't have one."""
    local = outer(node, way)
    if not local:
        return (), (lacking(f"network {network.name}", f"node {facts.name}", way, "from", FIX),)
    name = device_name(way)
    link = Link(
        name=name,
        kind="vxlan",
        alias=f"{ALIAS_PREFIX}vxlan:{network.name}",
        mac=vtep_mac(network.name, facts.name),
        mtu=size(network, way, told, facts),
        # A zero outer checksum over IPv4 is what RFC 7348 asks for, and no offload can get it wrong.
        vxlan=VxlanOptions(vni=way.vni, port=way.port, local=local, checksum=way.underlay == 6),
    )
    return (link, loose(name)), ()


def own_block(block: Block, way: Way, node: Node | None) -> tuple[AnyObject, ...]:
    """The address of the device, where there is one."""
    return (address(device_name(way), block),) if outer(node, way) else ()


def peer_block(block: Block, way: Way, node: Node, own: Node | None) -> Planned:
    """Neighbour, forwarding entry and route to one block of a peer."""
    if not outer(own, way):
        return (), ()
    remote = outer(node, way)
    if not remote:
        return (), (lacking(f"peer {node.name} block {block.cidr}", "the node", way, "to", FIX),)
    return reached(block.cidr, way, vtep_mac(block.spec.network, node.name), remote), ()


def reached(cidr: str, way: Way, mac: str, remote: str) -> tuple[AnyObject, ...]:
    """Neighbour, forwarding entry and route to a block behind the VTEP ``mac`` of the node at ``remote``."""
    name, via = device_name(way), next_hop(cidr, mac)
    metric = IPV6_METRIC if family_of(cidr) == 6 else 0
    return (
        Neighbour(link=name, address=via, mac=mac),
        Fdb(link=name, mac=mac, dst=remote),
        Route(dst=cidr, via=via, dev=name, onlink=True, metric=metric),
    )

"""transport: vxlan (RFC 7348). One device per way; per peer a forwarding entry, per block a route.

Nothing is learned and nothing is flooded: a permanent neighbour says which VTEP MAC a block's next hop has,
a forwarding entry which node has that MAC, and the route to the block goes via that next hop, on-link. A
VTEP's MAC follows from the network's and the node's name, so that it need not be told.
"""

from __future__ import annotations

import hashlib
import ipaddress

from podway.model import names
from podway.model.objects import (
    ALIAS_PREFIX,
    Address,
    AnyObject,
    Fdb,
    Link,
    Neighbour,
    Route,
    Sysctl,
    VxlanOptions,
    family_of,
)
from podway.model.resources import Block, Network, Node, NodeFacts, Paths
from podway.plan import mtu
from podway.plan.attach.pod import IPV6_METRIC
from podway.plan.notes import Note
from podway.plan.way import Way

Planned = tuple[tuple[AnyObject, ...], tuple[Note, ...]]


def device_name(way: Way) -> str:
    """Two ways stand side by side, so a device is named by its parameters: "pwv" and a hash."""
    return "pwv" + hashlib.sha256(way.text.encode()).hexdigest()[:10]


def vtep_mac(network: str, node: str) -> str:
    """The MAC of a node's VTEP, the same computed anywhere."""
    return names.mac("vtep", network, node)


def vtep_address(cidr: str) -> str:
    """What the owner's end of the tunnel has of a block: its .0, which no pod gets."""
    return str(ipaddress.ip_network(cidr).network_address)


def next_hop(cidr: str, mac: str) -> str:
    """Of an IPv4 block its .0; of an IPv6 one the link-local address of the VTEP's MAC.

    The kernel moves no IPv6 route to another device whose next hop lies in its own prefix (seen): it takes
    the route that stands for the way to that next hop."""
    if family_of(cidr) == 6:
        return names.link_local(mac)
    return vtep_address(cidr)


def outer(node: Node | None, way: Way) -> str:
    """The node's end of the tunnel, "" when it has no address of the family."""
    return node.address(way.underlay) if node is not None else ""


def device(network: Network, way: Way, told: Paths | None, node: Node | None, facts: NodeFacts) -> Planned:
    """This node's end of the tunnel, or why it can't have one."""
    local = outer(node, way)
    if not local:
        reason = f"node {facts.name} has no IPv{way.underlay} address to tunnel from"
        return (), (Note(f"network {network.name}", reason, "give the node one, or set vxlan.underlay"),)
    name = device_name(way)
    link = Link(
        name=name,
        kind="vxlan",
        alias=f"{ALIAS_PREFIX}vxlan:{network.name}",
        mac=vtep_mac(network.name, facts.name),
        mtu=_mtu(network, way, told, facts),
        # A zero outer checksum over IPv4 is what RFC 7348 asks for, and no offload can get it wrong.
        vxlan=VxlanOptions(vni=way.vni, port=way.port, local=local, checksum=way.underlay == 6),
    )
    # Each direction of a conversation takes the way that its sender chose: strict would drop the other's.
    return (link, Sysctl(path=f"net/ipv4/conf/{name}/rp_filter", value="2")), ()


def _mtu(network: Network, way: Way, told: Paths | None, facts: NodeFacts) -> int:
    """Not below what pods still send by it."""
    sent = told.sizes.sends if told is not None and told.sizes is not None and way.text in told.sends else 0
    return max(mtu.of_way(network, way, facts), sent)


def own_block(block: Block, way: Way, node: Node | None) -> tuple[AnyObject, ...]:
    """The address that this node shows when it talks to pods elsewhere itself."""
    if not outer(node, way):
        return ()  # there is no device to hold it
    address = ipaddress.ip_network(block.cidr).network_address
    return (Address(link=device_name(way), address=f"{address}/{address.max_prefixlen}", nodad=True),)


def peer_block(block: Block, way: Way, node: Node) -> Planned:
    """Neighbour, forwarding entry and route to one block of a peer."""
    subject = f"peer {node.name} block {block.cidr}"
    remote = outer(node, way)
    if not remote:
        reason = f"the node has no IPv{way.underlay} address to tunnel to"
        return (), (Note(subject, reason, "give the node one, or set vxlan.underlay"),)
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

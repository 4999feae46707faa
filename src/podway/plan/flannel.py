"""interop: flannel-etcd. Blocks of Flannel's nodes, planned with the objects that Flannel uses itself.

Flannel carries IPv4 pods over IPv4 and IPv6 pods over IPv6, through two devices of one VNI and port; so a
node that takes part holds the way of each family that its pools have. A lease that can't be right (outside
of the pools, of another length, over one of this cluster's blocks) is isolated: named, and not planned.
"""

from __future__ import annotations

import ipaddress

from podway.model.objects import AnyObject, family_of
from podway.model.resources import (
    BLOCK_SIZES,
    Block,
    BlockSpec,
    ForeignBlock,
    Network,
    Node,
    NodeFacts,
    NodeSpec,
    Snapshot,
)
from podway.plan import nat
from podway.plan.notes import Note
from podway.plan.transport import hostgw, tunnel, vxlan
from podway.plan.way import of_block

Planned = tuple[tuple[AnyObject, ...], tuple[Note, ...]]


def not_ours(snapshot: Snapshot) -> dict[str, ForeignBlock]:
    """Leases of nodes that are not this cluster's own, which have their block in its store."""
    return {cidr: block for cidr, block in snapshot.foreigns.items() if cidr not in snapshot.blocks}


def foreign_block(block: ForeignBlock, network: Network, own: Node | None, facts: NodeFacts) -> Planned:
    """How this node reaches a block of a node of Flannel's, or why it doesn't."""
    subject = f"flannel node {block.address} block {block.cidr}"
    if not network.spec.interop:
        return (), ()  # no longer: what was seen is about to go
    wrong = _objection(block, network)
    if wrong:
        return (), (Note(subject, wrong, "delete or mend the lease in Flannel's etcd"),)
    node = Node(name=f"of Flannel {block.address}", spec=NodeSpec(addresses=(block.address,)))
    if network.spec.transport == "host-gw":
        spec = BlockSpec(network=network.name, node=node.name, attach=network.spec.attach)
        routes, notes = hostgw.peer_block(Block(cidr=block.cidr, spec=spec), node, facts)
        return (*routes, *nat.nodes((block.address,))), notes
    if network.spec.transport != "vxlan":
        return (), ()
    way = of_block(network.spec, block.cidr)
    if not tunnel.outer(own, way):
        reason = (
            f"this node has no IPv{way.underlay} address to tunnel from, and Flannel uses IPv{way.underlay}"
        )
        return (), (Note(subject, reason, "give this node one"),)
    return (*vxlan.reached(block.cidr, way, block.mac, block.address), *nat.nodes((block.address,))), ()


def _objection(block: ForeignBlock, network: Network) -> str:
    """Why a lease can't be right; "" when it can."""
    spec = network.spec
    family = family_of(block.cidr)
    prefix = ipaddress.ip_network(block.cidr)
    pools = [pool for pool in spec.pools if family_of(pool.cidr) == family]
    inside = [pool for pool in pools if prefix.subnet_of(ipaddress.ip_network(pool.cidr))]  # type: ignore[arg-type]
    if not inside:
        return f"it lies in no pool of network {network.name}"
    size = inside[0].block_size or BLOCK_SIZES[spec.attach][0 if family == 4 else 1]
    if prefix.prefixlen != size:
        return f"it is a /{prefix.prefixlen}, blocks of network {network.name} are /{size}"
    if spec.transport == "vxlan" and not block.mac:
        return "its lease names no VTEP"
    if any(ipaddress.ip_address(block.address) in ipaddress.ip_network(pool.cidr) for pool in spec.pools):
        return f"its node's address {block.address} lies in a pool of network {network.name}"
    return ""

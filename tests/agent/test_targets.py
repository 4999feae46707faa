"""Where a peer is probed: by its node address, and by a tunnel that both have an address in."""

from __future__ import annotations

from podway.agent import targets
from podway.model.lending import Borrow, BorrowSpec
from podway.model.resources import (
    Block,
    BlockSpec,
    Network,
    NetworkSpec,
    Node,
    NodeFacts,
    NodeSpec,
    Paths,
    Pool,
    Snapshot,
    Uplink,
)
from podway.plan.planner import Planner

POOLS = (Pool(cidr="10.1.0.0/29", block_size=30),)
ADDRESSES = {name: f"192.0.2.{number}/24" for number, name in enumerate("abc", 1)}
BLOCKS = {"a": "10.1.0.0/30", "b": "10.1.0.4/30"}


def asked(node: str, peer: str, transport: str) -> list[tuple[str, str, int]]:
    """(layer, target, size) of all paths; c has borrowed 10.1.0.3 of a's block, and has no other address."""
    way = "vxlan:1:8472:4" if transport == "vxlan" else "ipip:4"
    nodes = {
        name: Node(
            name=name,
            spec=NodeSpec(addresses=(address,)),
            paths={"pods": Paths(accepts=(way,), sends=(way,))},
        )
        for name, address in ADDRESSES.items()
    }
    spec = NetworkSpec(pools=POOLS, attach="routed", transport=transport)  # type: ignore[arg-type]
    owned = {
        cidr: Block(cidr=cidr, spec=BlockSpec(network="pods", node=name, attach="routed"))
        for name, cidr in BLOCKS.items()
    }
    borrow = Borrow(address="10.1.0.3", spec=BorrowSpec(network="pods", node="c"))
    networks = {"pods": Network(name="pods", spec=spec)}
    uplink = Uplink(name="up0", mtu=1500, addresses=(ADDRESSES[node],))
    planner = Planner(NodeFacts(name=node, uplinks=(uplink,)))
    planner.update_snapshot(
        Snapshot(networks=networks, nodes=nodes, blocks=owned, borrows={"10.1.0.3": borrow}, synced=True)
    )
    return [(path.layer, path.target, path.full) for path in targets.paths(nodes[peer], planner)]


def test_between_nodes_with_blocks_by_both() -> None:
    assert asked("a", "b", "vxlan") == [("underlay", "192.0.2.2", 1500), ("overlay", "10.1.0.4", 1450)]
    assert asked("b", "a", "ipip") == [("underlay", "192.0.2.1", 1500), ("overlay", "10.1.0.0", 1480)]


def test_a_node_that_has_borrowed_only_asks_by_node_addresses_alone() -> None:
    """Its questions through the tunnel would come from outside of it; the other carries what it did."""
    assert asked("c", "a", "vxlan") == [("underlay", "192.0.2.1", 1500)]
    assert asked("c", "b", "ipip") == [("underlay", "192.0.2.2", 1500)]


def test_of_a_node_that_has_borrowed_only_no_pod_is_asked() -> None:
    assert [(layer, target) for layer, target, _ in asked("a", "c", "vxlan")] == [("underlay", "192.0.2.3")]

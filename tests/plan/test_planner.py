"""The planner: a sequence of changes ends where a fresh planner fed everything begins."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
import strategies as cluster

from podway.model.lending import Borrow, BorrowSpec
from podway.model.objects import Address, Key, Link, Route
from podway.model.resources import Block, Endpoint, NodeFacts, PortMap, Snapshot, Uplink
from podway.plan.path import ASKING, Chosen, PathKey
from podway.plan.planner import Planner

changes = st.one_of(
    cluster.snapshots,
    st.tuples(st.just("put"), cluster.endpoints),
    st.tuples(st.just("drop"), st.integers(0, 5)),
    st.tuples(st.just("holes"), cluster.holes),
    st.tuples(st.just("path"), cluster.chosen),
    st.sampled_from([cluster.FACTS, NodeFacts(name=cluster.ME, uplinks=(Uplink(name="up1", mtu=1400),))]),
)


def _apply(planner: Planner, change: object) -> set[Key]:
    if isinstance(change, Snapshot):
        return planner.update_snapshot(change)
    if isinstance(change, NodeFacts):
        return planner.update_facts(change)
    assert isinstance(change, tuple)
    verb, value = change
    if verb == "path":
        return planner.update_paths(value)
    if verb == "put":
        return planner.update_endpoint(value.id, value)
    if verb == "holes":
        return planner.update_holes(value)
    return planner.update_endpoint(f"c{value}/eth0", None)


def _fresh(planner: Planner) -> Planner:
    inputs = planner.inputs
    fresh = Planner(inputs.facts)
    fresh.update_holes(inputs.holes)
    fresh.update_paths(inputs.paths)
    seen = Snapshot(
        networks=inputs.networks,
        nodes=inputs.nodes,
        blocks={cidr: block for cidr, block in inputs.blocks.items() if not block.borrowed},
        borrows=_borrows(inputs.blocks.values()),
        foreigns=inputs.foreigns,
    )
    fresh.update_snapshot(seen)
    for name, endpoint in inputs.endpoints.items():
        fresh.update_endpoint(name, endpoint)
    return fresh


def _borrows(blocks: Iterable[Block]) -> dict[str, Borrow]:
    addresses = {block.cidr.partition("/")[0]: block.spec for block in blocks if block.borrowed}
    return {
        address: Borrow(address=address, spec=BorrowSpec(network=spec.network, node=spec.node))
        for address, spec in addresses.items()
    }


@settings(max_examples=150)
@given(st.lists(changes, max_size=12))
def test_updates_agree_with_a_fresh_plan_and_name_what_changed(steps: list[object]) -> None:
    planner = Planner(cluster.FACTS)
    for step in steps:
        before = dict(planner.desired)
        changed = _apply(planner, step)
        after = planner.desired
        really = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
        assert really <= changed
    fresh = _fresh(planner)
    assert planner.desired == fresh.desired
    assert planner.conflicts == fresh.conflicts
    assert planner.notes == fresh.notes
    assert planner.targets.by_path == fresh.targets.by_path


def _planner(*endpoints: Endpoint, transport: str = "host-gw") -> Planner:
    planner = Planner(cluster.FACTS)
    from podway.model.resources import BlockSpec, Network, NetworkSpec, Node, NodeSpec, Pool

    network = Network(
        name="net1",
        spec=NetworkSpec(pools=(Pool(cidr="10.1.0.0/16"),), transport=transport),  # type: ignore[arg-type]
    )
    nodes = {
        "node-a": Node(name="node-a", spec=NodeSpec(addresses=("192.0.2.1/24",))),
        "node-b": Node(name="node-b", spec=NodeSpec(addresses=("192.0.2.2/24",))),
        "node-c": Node(name="node-c", spec=NodeSpec(addresses=("198.51.100.3/24",))),
    }
    blocks = {
        f"10.1.{i}.0/24": Block(
            cidr=f"10.1.{i}.0/24", spec=BlockSpec(network="net1", node=node, attach="bridge")
        )
        for i, node in enumerate(nodes, start=1)
    }
    planner.update_snapshot(Snapshot(networks={"net1": network}, nodes=nodes, blocks=blocks, synced=True))
    for one in endpoints:
        planner.update_endpoint(one.id, one)
    return planner


def test_while_a_peer_is_being_asked_nothing_is_advised() -> None:
    """Advice is for what was found; a moment after the start nothing was."""
    planner = _planner()
    planner.update_paths({PathKey("net1", "node-b", 4): Chosen("none", ASKING)})
    (asking,) = [note for note in planner.notes if "node-b" in note.subject]
    assert (asking.reason, asking.fix) == ("asking", "")


def test_own_block_gives_the_bridge_its_gateway() -> None:
    planner = _planner()
    bridge = planner.desired["link", "pw-net1"]
    assert isinstance(bridge, Link) and bridge.mtu == 1500 and bridge.mac
    assert planner.desired["address", "pw-net1", "10.1.1.1/24"] == Address(
        link="pw-net1", address="10.1.1.1/24", nodad=True
    )


def test_a_peer_on_the_segment_gets_a_route_and_one_behind_a_router_a_reason() -> None:
    planner = _planner()
    routes = [o for o in planner.desired.values() if isinstance(o, Route)]
    assert [(r.dst, r.via, r.dev) for r in routes] == [("10.1.2.0/24", "192.0.2.2", "up0")]
    (note,) = planner.notes
    assert "node-c" in note.subject and "not on-link" in note.reason and "vxlan" in note.fix


def test_transport_none_programs_no_peer() -> None:
    assert not [o for o in _planner(transport="none").desired.values() if isinstance(o, Route)]


def test_two_pods_on_one_port_are_a_conflict_that_ends_with_either() -> None:
    port = (PortMap(host_port=8080, container_port=80),)
    planner = _planner(cluster.endpoint(1, ports=port), cluster.endpoint(2, ports=port))
    (clash, *_) = planner.conflicts.values()
    assert clash == (("endpoint", "c1/eth0"), ("endpoint", "c2/eth0"))
    planner.update_endpoint("c1/eth0", None)
    assert not planner.conflicts

"""Turns against a real store: who acts, what is written, and that old readings are refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from podway.controller import garbage
from podway.controller.controller import Controller, Seen, has_work
from podway.model import documents, stored
from podway.model.resources import Block, BlockSpec, Snapshot
from podway.store import NotFound, Record, Store, open_store

NODE = b'{"addresses": ["192.0.2.1/24"]}'
SPEC = BlockSpec(network="pods", node="n1", attach="routed")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(f"sqlite:{tmp_path}/store.db", create=True)
    for name in ("n1", "n2"):
        opened.create(Record(kind="Node", name=name, spec=NODE))
    opened.create(
        Record(kind="Block", name="10.244.0.0/26", spec=documents.spec_json(Block(cidr="", spec=SPEC)))
    )
    yield opened
    opened.close()


def seen(store: Store, bgp: bool = False) -> Seen:
    return Seen(stored.snapshot(store.list(*documents.SPECS)[0])[0], bgp, frozenset())


def test_the_first_acts_and_another_after_it(store: Store) -> None:
    clock = Clock()
    a, b = Controller("a", clock), Controller("b", clock)
    a.turn(store, seen(store))
    due = b.turn(store, seen(store))
    assert a.acts and not b.acts and b.lease.holder == "a"
    clock.now = due
    b.turn(store, seen(store))
    while not b.acts:
        assert clock.now < 100.0 + 15.0
        clock.now = b.turn(store, seen(store))
    assert not a.acts
    a.turn(store, seen(store))
    assert not a.acts and a.lease.holder == "b"
    assert [deed.what for deed in a.lease.deeds] == ["a took over", "b took over"]


def test_given_up_it_is_taken_at_once(store: Store) -> None:
    clock = Clock()
    a, b = Controller("a", clock), Controller("b", clock)
    a.turn(store, seen(store))
    b.turn(store, seen(store))
    a.release(store)
    b.turn(store, seen(store))
    assert b.acts and not a.acts


def test_an_unreadable_lease_is_taken_over_like_anybodys(store: Store) -> None:
    store.create(Record(kind="Lease", name="controller", spec=b'{"holder": 7}'))
    clock = Clock()
    a = Controller("a", clock)
    a.turn(store, seen(store))
    assert not a.acts
    clock.now += 15.0
    a.turn(store, seen(store))
    assert a.acts


def test_the_topology_is_written_once(store: Store) -> None:
    clock = Clock()
    a = Controller("a", clock)
    a.turn(store, seen(store, bgp=True))
    first = store.get("BGPTopology", "default")
    found = seen(store, bgp=True)
    assert found.snapshot.bgp.topology is not None and found.snapshot.bgp.topology.new.mesh
    a.turn(store, found)
    assert store.get("BGPTopology", "default").version == first.version


def test_a_deleted_nodes_blocks_are_freed_after_a_time_and_others_never(store: Store) -> None:
    clock = Clock()
    a = Controller("a", clock)
    a.turn(store, seen(store))
    store.delete("Node", "n1")
    a.turn(store, seen(store))
    clock.now += garbage.KEPT - 1
    a.turn(store, seen(store))
    assert store.get("Block", "10.244.0.0/26")
    clock.now += 1
    a.turn(store, seen(store))
    with pytest.raises(NotFound):
        store.get("Block", "10.244.0.0/26")
    assert "its node n1 was deleted" in a.lease.deeds[-1].what


def test_a_node_that_came_back_keeps_its_block(store: Store) -> None:
    """Though the holder has not seen it yet: the store itself is asked before anything is freed."""
    clock = Clock()
    a = Controller("a", clock)
    a.turn(store, seen(store))
    store.delete("Node", "n1")
    old = seen(store)
    a.turn(store, old)
    store.create(Record(kind="Node", name="n1", spec=NODE))
    clock.now += garbage.KEPT
    a.turn(store, old)
    assert store.get("Block", "10.244.0.0/26")


def test_out_of_sync_nothing_is_garbage() -> None:
    orphan = {"10.244.0.0/26": Block(cidr="10.244.0.0/26", spec=SPEC)}
    state = garbage.step(garbage.State(), Snapshot(blocks=orphan, synced=True), 0.0).state
    step = garbage.step(state, Snapshot(blocks=orphan, synced=False), garbage.KEPT * 2)
    assert not step.free and not step.state.since
    assert not garbage.step(step.state, Snapshot(blocks=orphan, synced=True), garbage.KEPT * 3).free


def test_no_lease_is_needed_for_nothing(store: Store) -> None:
    """A cluster without BGP writes nothing until a block is nobody's."""
    assert not has_work(seen(store)) and has_work(seen(store, bgp=True))
    store.delete("Node", "n1", store.get("Node", "n1").version)
    assert has_work(seen(store))

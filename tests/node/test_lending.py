"""Nodes that lend each other addresses, on a real store: none is given twice or lost, whoever is killed."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from lenders import COOLDOWN, POOLS, SPEC, Clock, Fleet, Member, fleet

from podway.controller import garbage
from podway.controller.controller import Controller, Seen
from podway.ipam.lending import OFFERED
from podway.model import documents, stored
from podway.model.errors import Conflict, Exhausted, Unavailable
from podway.node import book, cluster, lending
from podway.node.faults import LENDING_POINTS, reach
from podway.store import Record

FOUR = [POOLS[0]]


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Fleet]:
    """a and b have a block of eight each with one pod in it; c came late."""
    with fleet(tmp_path, "a", "b", "c", pools=FOUR) as made:
        made.members["a"].add("a1")
        made.members["b"].add("b1")
        made.look()
        yield made


def test_a_node_without_a_block_borrows_and_gives_back(full: Fleet) -> None:
    a, c = full.members["a"], full.members["c"]
    (got,) = c.add("c1")
    assert full.borrows() == {got: "c"} and full.blocks("c") == []
    assert c.pods["c1/eth0"].addresses == (f"{got}/32",)
    full.look()
    assert got in full.offers("a") | full.offers("b")
    c.delete("c1/eth0")
    full.look()
    assert full.borrows() == {got: "c"}  # it cools down first
    full.clock.now += COOLDOWN + 1
    full.look()
    assert full.borrows() == {}
    journal = [(entry.kind, entry.key) for entry in c.database.journal(9)]
    assert journal == [("borrowed", f"address {got}"), ("released", f"address {got}")]
    with pytest.raises(Exhausted, match="no other node lends one"):
        for number in range(14):
            a.add(f"again{number}")
            full.look()


def test_all_addresses_of_a_pool_can_be_used_and_none_twice(full: Fleet) -> None:
    number = 0
    with contextlib.suppress(Exhausted):
        while True:
            number += 1
            full.members["c"].add(f"c{number + 1}")
            full.look()
    given = [address for member in full.members.values() for address in member.addresses]
    assert len(given) == len({*given}) == 14  # a block's first is kept back


def test_an_owner_takes_back_what_it_needs_itself(full: Fleet) -> None:
    """All but what is borrowed, though it knows nothing yet of the last Borrow."""
    a, c = full.members["a"], full.members["c"]
    assert len(full.offers("a")) == 3  # half of six
    offered = sorted(full.offers("a"))
    (got,) = c.add("c1", offered[0])
    for number in range(5):
        a.add(f"more{number}")
    assert got not in a.addresses and len(a.addresses) == 6


def test_an_address_that_is_asked_for_by_name(full: Fleet) -> None:
    a, c = full.members["a"], full.members["c"]
    first, second, third = sorted(full.offers("a"))
    assert a.add("named", first) == (first,)
    assert first not in full.offers("a")
    assert c.add("far", second) == (second,)
    a.look()
    with pytest.raises(Conflict, match="held by node c"):
        a.add("late", second)
    with pytest.raises(Conflict, match="in a block of node a"):
        c.add("own", a.addresses[0])
    assert third in full.offers("a")


def test_what_two_see_offered_one_gets(full: Fleet) -> None:
    c, d = full.members["c"], full.join("d")
    got = [member.add(f"{member.name}{number}")[0] for number in range(3) for member in (c, d)]
    assert len({*got}) == 6 and len(full.borrows()) == 6


def test_a_borrower_that_saw_an_offer_too_long_ago_lets_it_be(full: Fleet) -> None:
    a, c = full.members["a"], full.members["c"]
    offered = full.offers("a")
    for number in range(6):
        a.add(f"more{number}")
    assert {*a.addresses} >= offered and full.offers("a") == set()
    for address in offered:  # c has seen nothing of it
        with pytest.raises(Conflict):
            c.add("c1", address)
    assert full.borrows() == {}


def test_nothing_is_offered_while_there_are_blocks(tmp_path: Path) -> None:
    with fleet(tmp_path, "a", "b", pools=[{"cidr": "10.0.0.0/24", "blockSize": 29}]) as made:
        made.members["a"].add("a1")
        made.look()
        assert made.offers("a") == set()


def test_offers_end_when_there_are_blocks_again(full: Fleet) -> None:
    assert full.offers("a") and len(full.offers("a")) <= OFFERED
    (record,) = full.store.list("Network")[0]
    larger = json.dumps(SPEC | {"pools": [{"cidr": "10.0.0.0/24", "blockSize": 29}]}).encode()
    full.store.update_spec(Record(kind="Network", name="pods", spec=larger, version=record.version))
    full.look()
    assert full.offers("a") == full.offers("b") == set()


def test_a_block_that_is_borrowed_of_is_not_given_back(full: Fleet) -> None:
    """Nor one that is offered of, until it is offered no more."""
    a, b, c = (full.members[name] for name in "abc")
    b.delete("b1/eth0")
    full.clock.now += COOLDOWN + 1
    full.look()
    wanted = sorted(full.offers("b"))[0]
    c.add("c1", wanted)
    spare = full.blocks("b")
    b.book._spare = lambda: {*spare}  # type: ignore[method-assign] # as if it had another, that its peers prove the way to
    for _ in range(3):
        assert b.book.release_empty() == []
        full.clock.now += book.EMPTY + 1
        full.look()
    c.delete("c1/eth0")
    full.clock.now += COOLDOWN + 1
    full.look()
    assert full.borrows() == {} and b.book.release_empty() == []
    full.clock.now += book.EMPTY + 1
    assert b.book.release_empty() == spare
    assert full.blocks("b") == []
    with pytest.raises(Conflict):  # who has seen nothing of it
        c.add("late", wanted)
    assert full.borrows() == {} and a.addresses


def test_a_deleted_nodes_blocks_and_borrows_go_when_nobody_has_anything_of_them(full: Fleet) -> None:
    c = full.members["c"]
    got = c.add("c1", sorted(full.offers("a"))[0])[0]
    full.store.delete("Node", "a")
    clock = Clock()
    controller = Controller("b", clock)

    def turn() -> None:
        snapshot = stored.snapshot(full.store.list(*documents.SPECS)[0])[0]
        controller.turn(full.store, Seen(snapshot, False, frozenset()))
        clock.now += garbage.KEPT + 1

    lent = full.blocks("a")
    for _ in range(3):
        turn()
    assert full.blocks("a") == lent and full.borrows() == {got: "c"}
    full.store.delete("Node", "c")
    for _ in range(2):
        turn()
    assert full.borrows() == {}
    for _ in range(2):
        turn()
    assert full.blocks("a") == [] and full.blocks("b")
    assert any(f"address {got}" in deed.what for deed in controller.lease.deeds)


def test_a_restart_without_the_store_remembers_what_was_offered(full: Fleet) -> None:
    offered = full.offers("a")
    database = full.members["a"].database
    aside = full.directory / "aside"
    (full.directory / "store.db").rename(aside)
    a = Member("a", full.directory, f"sqlite:{full.directory}/nowhere/store.db", full.clock)
    try:
        for number in range(3):
            a.add(f"more{number}")
        with pytest.raises((Unavailable, Exhausted)):
            a.add("last")
        assert not {*a.addresses} & offered
    finally:
        a.close()
        aside.rename(full.directory / "store.db")
    assert len(database.endpoints()) == 4


class Killed(BaseException):
    """As SIGKILL would, in the middle."""


class Lenders(RuleBasedStateMachine):
    """Nodes that look, add, delete and are killed in any order, each by what it saw at its last look."""

    NAMES: ClassVar = ("a", "b", "c")

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.fleet = Fleet(self.directory, *self.NAMES)
        self.number = 0
        self.point = ""
        for module in (lending, cluster):
            module.reach = self._reach  # type: ignore[attr-defined]

    def _reach(self, point: str) -> None:
        if point == self.point:
            raise Killed(point)

    @contextlib.contextmanager
    def _alive(self, name: str, point: str) -> Iterator[Member]:
        self.point = point
        try:
            yield self.fleet.members[name]
        except Killed:
            self.point = ""
            self.fleet.join(name)
        finally:
            self.point = ""

    names = st.sampled_from(NAMES)
    points = st.sampled_from([*[""] * 6, *LENDING_POINTS])

    @rule(name=names, point=points, journalled=st.sampled_from([True, True, True, False]))
    def add(self, name: str, point: str, journalled: bool) -> None:
        self.number += 1
        with self._alive(name, point) as member, contextlib.suppress(Exhausted, Conflict):
            if journalled:
                member.add(f"p{self.number}")
            else:
                member.book.allocate(member.book.network("pods"), f"p{self.number}/eth0", (), ())
                raise Killed("add.claimed")

    @precondition(lambda self: any(member.pods for member in self.fleet.members.values()))
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        living = [(m, pod) for m in self.fleet.members.values() for pod in sorted(m.pods)]
        member, pod = data.draw(st.sampled_from(living))
        member.delete(pod)

    @rule(name=names, point=points)
    def look(self, name: str, point: str) -> None:
        with self._alive(name, point) as member:
            member.look()

    @rule(name=names, seconds=st.sampled_from([1, COOLDOWN, 400]), point=points)
    def wait(self, name: str, seconds: int, point: str) -> None:
        self.fleet.clock.now += seconds
        with self._alive(name, point) as member:
            member.book.release_empty()
            member.look()

    @rule(name=names)
    def restart(self, name: str) -> None:
        self.fleet.join(name)

    @invariant()
    def no_address_twice(self) -> None:
        given = [a for member in self.fleet.members.values() for a in member.addresses]
        assert len(given) == len({*given})

    @invariant()
    def nobody_has_what_is_neither_its_own_nor_borrowed(self) -> None:
        borrows = self.fleet.borrows()
        snapshot, _ = stored.snapshot(self.fleet.store.list("Block")[0])
        owned = {
            name: [ipaddress.ip_network(c) for c, b in snapshot.blocks.items() if b.spec.node == name]
            for name in self.NAMES
        }
        for name, member in self.fleet.members.items():
            for address in member.addresses:
                mine = any(ipaddress.ip_address(address) in block for block in owned[name])
                assert mine != (borrows.get(address) == name)

    def teardown(self) -> None:
        try:
            for member in self.fleet.members.values():
                for pod in member.pods:
                    member.delete(pod)
            self.fleet.clock.now += COOLDOWN + 1
            self.fleet.look(3)
            assert self.fleet.borrows() == {}
            for name in self.NAMES:  # nothing is lost: one of them can have all that is not another's block
                assert len(self.fleet.offers(name)) <= 4 * OFFERED * len(self.fleet.blocks(name))
        finally:
            for module in (lending, cluster):
                module.reach = reach  # type: ignore[attr-defined]
            self.fleet.close()
            shutil.rmtree(self.directory)


Lenders.TestCase.settings = settings(
    max_examples=15, stateful_step_count=35, suppress_health_check=[*HealthCheck]
)
TestLenders = Lenders.TestCase

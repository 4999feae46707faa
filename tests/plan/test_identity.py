"""One name, one machine: whoever comes second asks, is refused by a living holder, and follows a dead one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from podway.model.resources import Identity, Machine
from podway.plan.identity import AGAIN, FORGET, PATIENCE, Standing, step

OLD = Machine(state="1", boot="x", host="old")
NEW = Machine(state="2", boot="y", host="new")


class Store:
    """What the store says, and the agents that read and write it."""

    def __init__(self) -> None:
        self.said = Identity()
        self.held: set[str] = set()
        self.asked: dict[str, float] = {}
        self.writes = 0

    def turn(self, me: Machine, now: float) -> Standing:
        """One agent looks and writes."""
        key = f"{me.state}{me.boot}"
        before = self.said
        self.said, standing = step(before, me, key in self.held, "a", now, self.asked.get(key))
        self.writes += self.said != before
        claim = self.said.claimant
        if claim != before.claimant and claim is not None and claim.machine == me:
            self.asked[key] = now
        self.held |= {key} if standing.serves else set()
        return standing

    def restart(self, me: Machine) -> None:
        """Its process knows nothing."""
        self.held.discard(f"{me.state}{me.boot}")


def test_the_first_begins_at_once_and_again_after_a_restart_and_a_reboot() -> None:
    store = Store()
    assert store.turn(OLD, 0).serves
    store.restart(OLD)
    assert store.turn(OLD, 1).serves
    rebooted = Machine(state="1", boot="later", host="old")
    assert store.turn(rebooted, 2).serves and store.said.machine == rebooted


def test_a_living_holder_refuses_and_both_name_each_other() -> None:
    store = Store()
    store.turn(OLD, 0)
    asked = store.turn(NEW, 10)
    assert not asked.serves and asked.wake == 10 + PATIENCE
    holder = store.turn(OLD, 10.1)
    assert holder.serves and "machine new was started as a too" in holder.notes[0].reason
    refused = store.turn(NEW, 10.2)
    assert not refused.serves and "machine old is a; this one was refused" in refused.notes[0].reason
    assert not store.turn(NEW, 10 + PATIENCE).serves and store.said.machine == OLD
    assert not store.turn(NEW, 10 + AGAIN).serves  # whoever takes this turn first says so again


def test_the_holder_forgets_a_machine_that_asks_no_more() -> None:
    store = Store()
    store.turn(OLD, 0)
    store.turn(NEW, 10)
    assert store.turn(OLD, 10.1).wake == 10.1 + FORGET + 1
    assert not store.turn(OLD, 10.1 + FORGET + 1).notes


def test_where_nobody_answers_the_name_is_taken() -> None:
    store = Store()
    store.turn(OLD, 0)
    assert not store.turn(NEW, 10).serves
    assert not store.turn(NEW, 10 + PATIENCE / 2).serves
    assert store.turn(NEW, 10 + PATIENCE).serves and store.said.machine == NEW
    back = store.turn(OLD, 20)  # it was cut off: now it is the one that asks
    assert not back.serves and "machine new is a" in back.notes[0].reason


@given(st.floats(-1e5, 1e5), st.floats(-1e5, 1e5), st.booleans())
def test_clocks_that_are_far_off_make_nobody_write_on_and_on(one: float, other: float, alive: bool) -> None:
    """Each looks whenever another wrote, as a watch has it; a dead holder's name is taken all the same."""
    store = Store()
    third = Machine(state="3", boot="w", host="third")
    store.turn(OLD, 0)
    served = False
    for second in range(200):
        for _ in range(3):
            if alive:
                assert store.turn(OLD, second).serves
            for machine, skew in ((NEW, one), (third, other)):
                served = store.turn(machine, second + skew).serves or served
    assert store.writes < 40
    assert served != alive


def test_a_clone_of_a_living_machine_is_refused() -> None:
    store = Store()
    store.turn(OLD, 0)
    clone = Machine(state="1", boot="z", host="clone")
    store.turn(clone, 10)
    assert store.turn(OLD, 10.1).serves and store.said.machine == OLD
    assert not store.turn(clone, 10.2).serves
    assert store.turn(OLD, 10.3).serves


@given(st.lists(st.tuples(st.integers(0, 2), st.floats(0.01, 1)), max_size=60))
def test_two_living_machines_never_both_serve_for_long(turns: list[tuple[int, float]]) -> None:
    """With a holder that looks at least once within PATIENCE, nobody else ever begins."""
    store = Store()
    machines = (OLD, NEW, Machine(state="3", boot="w", host="third"))
    now = 0.0
    store.turn(OLD, now)
    for number, pause in turns:
        now += pause
        assert store.turn(OLD, now).serves
        assert store.turn(machines[number], now).serves == (number == 0)

"""Repairs of one key are free at first, then ever rarer, and free again after peace."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from podway.node.backoff import FREE, LONGEST, WINDOW, Fight, repaired


def _fight(times: list[float]) -> Fight:
    state = Fight()
    for now in times:
        state = repaired(state, now)
    return state


def test_a_few_quick_repairs_wait_for_nothing() -> None:
    assert _fight([100 + i for i in range(FREE - 1)]).wait == 0


def test_one_more_waits_and_each_further_one_twice_as_long() -> None:
    waits = []
    state, now = Fight(), 100.0
    for _ in range(FREE + 3):
        state = repaired(state, now)
        waits.append(state.wait)
        now = state.allowed_at + 0.01
    assert waits[FREE - 1 :] == [1.0, 2.0, 4.0, 8.0]


def test_slow_repairs_never_wait() -> None:
    assert _fight([i * (WINDOW + 1) for i in range(50)]).wait == 0


def test_peace_ends_the_fight() -> None:
    state = _fight([100.0 + i * 0.1 for i in range(FREE + 2)])
    assert state.wait > 0
    assert repaired(state, state.allowed_at + LONGEST + 1).wait == 0


@given(st.lists(st.floats(min_value=0, max_value=30), max_size=60))
def test_no_wait_is_longer_than_the_longest(gaps: list[float]) -> None:
    now, times = 100.0, []
    for gap in gaps:
        now += gap
        times.append(now)
    assert _fight(times).wait <= LONGEST

"""News from the store is taken in at once, and in a storm together."""

from __future__ import annotations

from podway.agent.pace import LONGEST, Pace


def test_a_few_changes_are_each_taken_in_at_once() -> None:
    pace = Pace()
    assert [pace.rest(n * 0.02, n * 0.02 + 0.01) for n in range(4)] == [0, 0, 0, 0]


def test_a_storm_is_gathered_more_and_more_and_never_for_long() -> None:
    """A hundred rounds' worth of news in a row: most of the time is rest, none is longer than LONGEST."""
    pace, now, worked = Pace(), 0.0, 0.0
    rests = []
    while now < 20:
        rests.append(pace.rest(now, now + 0.02))
        worked += 0.02
        now += 0.02 + rests[-1]
    assert rests[:20] == sorted(rests[:20]) and worked < 20 / 8
    slow = Pace()
    assert max(slow.rest(n * 5, n * 5 + 4.9) for n in range(20)) == LONGEST


def test_quiet_ends_a_storm() -> None:
    pace, now = Pace(), 0.0
    for _ in range(20):
        now += 0.01 + pace.rest(now, now + 0.01)
    assert pace.rest(now + 1, now + 1.01) == 0

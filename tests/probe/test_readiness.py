"""Readiness: programmed, probed, latched; and whose turn it is to be probed."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from podway.probe import readiness
from podway.probe.readiness import PATIENCE, Look, Readiness
from podway.probe.rotation import RATE, SHORTEST, SWEEP_RATE, Rotation

names = st.sampled_from(["b", "c", "d"])
looks = st.builds(
    Look,
    store=st.sampled_from(["", "", "", "store: down"]),
    unprogrammed=st.dictionaries(names, st.integers(1, 3)),
    unanswered=st.sets(names).map(sorted).map(tuple),
    sweep=st.sampled_from([0.1, 3.0]),
)


def test_programmed_and_answered_is_ready() -> None:
    """It says what is missing until then, first objects, then answers."""
    state = readiness.step(Readiness(), Look(unprogrammed={"b": 3}, unanswered=("b",)), 1.0)
    assert not state.ready and state.missing == ("peer b: 3 kernel objects",)
    state = readiness.step(state, Look(unanswered=("b",)), 2.0)
    assert not state.ready and "peer b: no answer" in readiness.sentence(state)
    state = readiness.step(state, Look(), 3.0)
    assert state.ready and readiness.sentence(state) == "ready"


def test_a_node_alone_is_ready_at_once() -> None:
    """Nobody is waited for."""
    assert readiness.step(Readiness(), Look(), 0.0).ready


def test_a_dead_peer_makes_nobody_unready() -> None:
    """Its deadline passes, and it is named."""
    state = readiness.step(Readiness(), Look(unanswered=("b",), sweep=2.0), 0.0)
    state = readiness.step(state, Look(unanswered=("b",)), PATIENCE + 1.9)
    assert not state.ready
    state = readiness.step(state, Look(unanswered=("b",)), PATIENCE + 2.0)
    assert state.ready and readiness.sentence(state) == "ready, without an answer of b"


def test_an_object_that_never_stands_is_named_too() -> None:
    """A peer that the kernel refuses holds nobody back for ever; progress is waited for."""
    state = Readiness()
    for now in range(100):
        state = readiness.step(state, Look(unprogrammed={"b": 200 - now}), float(now))
        assert not state.ready
    for now in range(100, 130):
        state = readiness.step(state, Look(unprogrammed={"b": 101}, unanswered=("b",)), float(now))
    assert state.ready and state.late == ("b",)


@given(st.lists(looks, min_size=1, max_size=30))
def test_it_latches_and_always_comes(seen: list[Look]) -> None:
    """Once ready stays ready; while the store is known, waiting ends; what is missing is said till then."""
    state, now = Readiness(), 0.0
    for look in seen:
        before = state
        state = readiness.step(state, look, now)
        assert state == before if before.ready else state.ready or state.missing
        now += 1.0
    for _ in range(3):
        state = readiness.step(state, Look(unprogrammed={"b": 1}, unanswered=("c",)), now)
        now += PATIENCE + 3.1
    assert readiness.step(state, Look(unanswered=("c",)), now).ready


def _run(peers: int, seconds: float, took: float = 0.01) -> list[tuple[float, str]]:
    rotation = Rotation()
    rotation.update([f"n{number}" for number in range(peers)], 0.0)
    taken: list[tuple[float, str]] = []
    while (now := rotation.next_at()) is not None and now <= seconds:
        peer = rotation.take(now)
        assert peer is not None
        taken.append((now, peer))
        rotation.again(peer, now + took, settled=True)
    return taken


def test_the_cost_does_not_grow_with_the_cluster() -> None:
    """A thousand peers: all asked once at the sweep's rate, then RATE a second, each at its turn."""
    taken = _run(1000, 600.0)
    sweep = [at for at, _ in taken[:1000]]
    assert len({peer for _, peer in taken[:1000]}) == 1000 and sweep[-1] <= 1000 / SWEEP_RATE + 1
    later = [at for at, _ in taken if at > 300.0]
    assert len(later) <= 300 * RATE * 1.05
    assert len(later) >= 300 * RATE * 0.9
    turns = [at for at, peer in taken if peer == "n7"]
    assert len(turns) >= 3
    for begin in range(60, 600, 20):  # evenly, and not all of them one after the other
        assert sum(begin <= at < begin + 20 for at, _ in taken) >= 20 * RATE * 0.6


def test_in_a_small_cluster_turns_are_short() -> None:
    """Ten peers are asked every few seconds."""
    turns = [at for at, peer in _run(10, 60.0) if peer == "n3"]
    gaps = [b - a for a, b in itertools.pairwise(turns)]
    assert max(gaps) <= SHORTEST * 1.2


@given(st.lists(st.sets(st.integers(0, 9)), min_size=1, max_size=6))
def test_whoever_comes_is_asked_and_whoever_goes_is_not(steps: list[set[int]]) -> None:
    """Peers join and leave at any moment, also while their round runs."""
    rotation, now = Rotation(), 0.0
    for members in steps:
        peers = {f"n{number}" for number in members}
        rotation.update(peers, now)
        asked = set()
        for _ in range(40):
            at = rotation.next_at()
            if at is None:
                break
            now = max(now, at)
            peer = rotation.take(now)
            assert peer in peers
            asked.add(peer)
            rotation.again(peer, now, settled=True)
        assert asked == peers

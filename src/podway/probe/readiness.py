"""When a node is ready: its peers are programmed, and one sweep of probes was answered. Pure.

    programming ──every live peer's objects stand──▶ sweeping ──every peer answered──▶ ready
         │                                              ▲   │
         └──no progress for PATIENCE seconds────────────┘   └──its time is over──────▶ ready, naming the late

Ready latches: what fails later is for status and metrics. One dead peer makes no healthy node unready.
"""

from __future__ import annotations

from typing import Literal

import msgspec

PATIENCE = 10.0  # seconds without progress until those who are late are named and no longer waited for
NAMED = 5  # names in a sentence

Phase = Literal["programming", "sweeping", "ready"]


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What the agent sees now. ``store`` "" or why nothing is known of the cluster yet.

    ``unprogrammed``: peer → objects that don't stand; ``unanswered``: peers that no full set of paths
    answered for; ``sweep``: seconds that asking every peer once takes."""

    store: str = ""
    unprogrammed: dict[str, int] = {}
    unanswered: tuple[str, ...] = ()
    sweep: float = 0.0


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """``missing``: what is waited for, sentences; ``late``: peers that it turned ready without.

    ``deadline``: when waiting ends; ``least``: the fewest objects that were missing so far."""

    phase: Phase = "programming"
    missing: tuple[str, ...] = ("the agent is starting",)
    late: tuple[str, ...] = ()
    deadline: float | None = None
    least: int | None = None

    @property
    def ready(self) -> bool:
        """Latched."""
        return self.phase == "ready"


def step(state: Readiness, look: Look, now: float) -> Readiness:
    """The state after a look; look again at ``deadline``, or when something changed."""
    if state.ready:
        return state
    if look.store:
        return Readiness(missing=(look.store,))
    if state.phase == "programming":
        return _programming(state, look, now)
    return _sweeping(state, look, now)


def _programming(state: Readiness, look: Look, now: float) -> Readiness:
    count = sum(look.unprogrammed.values())
    if count == 0:
        return _sweeping(_sweep(look, now), look, now)
    progress = state.least is None or count < state.least
    deadline = now + PATIENCE if progress or state.deadline is None else state.deadline
    if now >= deadline:
        return _sweeping(_sweep(look, now, tuple(sorted(look.unprogrammed))), look, now)
    missing = tuple(f"peer {peer}: {n} kernel objects" for peer, n in sorted(look.unprogrammed.items()))
    least = count if progress else state.least
    return Readiness(missing=missing, deadline=deadline, least=least)


def _sweep(look: Look, now: float, late: tuple[str, ...] = ()) -> Readiness:
    return Readiness(phase="sweeping", deadline=now + look.sweep + PATIENCE, late=late)


def _sweeping(state: Readiness, look: Look, now: float) -> Readiness:
    waiting = [peer for peer in look.unanswered if peer not in state.late]
    assert state.deadline is not None
    if not waiting or now >= state.deadline:
        late = tuple(sorted({*state.late, *waiting}))
        return Readiness(phase="ready", missing=(), late=late)
    missing = tuple(f"peer {peer}: no answer to probes" for peer in waiting)
    return msgspec.structs.replace(state, missing=missing)


def sentence(state: Readiness) -> str:
    """For people, in one line."""
    if state.ready:
        return f"ready, without an answer of {listed(state.late)}" if state.late else "ready"
    return f"not ready: {listed(state.missing, '; ')}"


def listed(names: tuple[str, ...], separator: str = ", ") -> str:
    """The first few names, and how many more."""
    more = len(names) - NAMED
    return separator.join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")

"""Who acts for the cluster: one object in the store, written by compare-and-swap. Pure.

The holder writes the object anew all the time, and acts only for ACTS of the term after it *began* to write
it last. Who stands by takes over once the object hasn't changed for PATIENCE of the term. Both are measured
by one's own clock, so clocks are never compared, and ACTS < PATIENCE keeps them apart. A write that rests on
an old reading is refused by the store, whoever makes it. PATIENCE + LOOK < 1: one that dies is followed
within a term.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

RENEW = 0.2  # of the term: between the holder's writes
LOOK = 0.2  # between looks of those who stand by
ACTS = 0.6  # how long a write lets its writer act
PATIENCE = 0.75  # how long an unchanged object is left to its holder


class Found(NamedTuple):
    """The object as it was read: ``version`` changes with every write; ``holder`` "" was given up."""

    holder: str
    version: str


class State(msgspec.Struct, frozen=True, kw_only=True):
    """Times are of one's own monotonic clock. ``seen``: the version that stands since ``since``."""

    until: float = float("-inf")  # when one stops acting
    seen: str = ""
    since: float = 0.0

    def acts(self, now: float) -> bool:
        """Whether one may act now."""
        return now < self.until


class Step(NamedTuple):
    """``wish``: what to write to the object now; ``deadline``: when to look again."""

    state: State
    wish: Literal["", "create", "write"]
    deadline: float


def read(state: State, me: str, found: Found | None, term: float, now: float) -> Step:
    """The object was read; None: there is none."""
    if found is None:
        return Step(state, "create", now + LOOK * term)
    if found.version != state.seen:
        state = msgspec.structs.replace(state, seen=found.version, since=now)
    if found.holder in (me, "") or now - state.since >= PATIENCE * term:
        return Step(state, "write", now + LOOK * term)
    # another has it, whatever one believed
    return Step(
        msgspec.structs.replace(state, until=float("-inf")),
        "",
        min(now + LOOK * term, state.since + PATIENCE * term),
    )


def wrote(state: State, version: str, began: float, term: float) -> State:
    """One's write, begun at ``began``, was taken."""
    return State(until=began + ACTS * term, seen=version, since=began)


def refused(state: State) -> State:
    """Somebody else wrote first: it is theirs."""
    return msgspec.structs.replace(state, until=float("-inf"))

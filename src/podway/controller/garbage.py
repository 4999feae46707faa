"""Blocks of nodes that were deleted: freed, after a time. Pure.

Only a node that is in the store no more loses its blocks so: one whose agent isn't heard of keeps them. What
counts is a store that is in sync, looked at for KEPT by the same holder: a node that is being made anew, or a
store that is being filled, has the time to come.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from podway.model.resources import Snapshot

KEPT = 300.0  # seconds that a block outlives its node


class State(msgspec.Struct, frozen=True):
    """Block → since when its node is gone, in seconds of the monotonic clock."""

    since: dict[str, float] = {}


class Step(NamedTuple):
    """``free``: block → the node that it was of."""

    state: State
    free: Mapping[str, str]
    deadline: float | None


def has_orphans(snapshot: Snapshot) -> bool:
    """Whether a block is of a node that isn't there."""
    return any(block.spec.node not in snapshot.nodes for block in snapshot.blocks.values())


def step(state: State, snapshot: Snapshot, now: float, kept: float = KEPT) -> Step:
    """Which blocks may go now. A snapshot that isn't in sync says nothing, and all begins anew."""
    if not snapshot.synced or any(one.kind == "Node" for one in snapshot.unreadable):
        return Step(State(), {}, None)
    orphans = {c: b.spec.node for c, b in snapshot.blocks.items() if b.spec.node not in snapshot.nodes}
    since = {cidr: state.since.get(cidr, now) for cidr in orphans}
    free = {cidr: node for cidr, node in orphans.items() if now - since[cidr] >= kept}
    deadline = min((at + kept for cidr, at in since.items() if cidr not in free), default=None)
    return Step(State(since), free, deadline)

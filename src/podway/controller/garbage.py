"""Blocks of nodes that were deleted, and what these had borrowed: freed, after a time. Pure.

A block of which another node has borrowed an address stays until it has given that back. Only a node that is
in the store no more loses its blocks so: one whose agent isn't heard of keeps them. What counts is a store in
sync, looked at for KEPT by the same holder: a node that is being made anew, or a store that is being filled,
has the time to come.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from podway.model.lending import Borrow
from podway.model.resources import Block, Snapshot

KEPT = 300.0  # seconds that a block outlives its node


class State(msgspec.Struct, frozen=True):
    """Block, or borrowed address, → since when its node is gone, in seconds of the monotonic clock."""

    since: dict[str, float] = {}


class Step(NamedTuple):
    """``free``: block → the node that it was of; ``borrows``: address → the node that had borrowed it."""

    state: State
    free: Mapping[str, str]
    borrows: Mapping[str, str]
    deadline: float | None


def has_orphans(snapshot: Snapshot) -> bool:
    """Whether a block or a borrowed address is of a node that isn't there."""
    return bool(_orphans(snapshot))


def step(state: State, snapshot: Snapshot, now: float, kept: float = KEPT) -> Step:
    """Which blocks may go now. A snapshot that isn't in sync says nothing, and all begins anew."""
    if not snapshot.synced or any(one.kind == "Node" for one in snapshot.unreadable):
        return Step(State(), {}, {}, None)
    orphans = _orphans(snapshot)
    since = {name: state.since.get(name, now) for name in orphans}
    due = {name: node for name, node in orphans.items() if now - since[name] >= kept}
    deadline = min((at + kept for name, at in since.items() if name not in due), default=None)
    free = {cidr: node for cidr, node in due.items() if "/" in cidr and not lent(cidr, snapshot.borrows)}
    borrows = {address: node for address, node in due.items() if "/" not in address}
    return Step(State(since), free, borrows, deadline)


def _orphans(snapshot: Snapshot) -> dict[str, str]:
    """Block or borrowed address → its node that isn't there."""
    every: dict[str, Block | Borrow] = {**snapshot.blocks, **snapshot.borrows}
    return {name: one.spec.node for name, one in every.items() if one.spec.node not in snapshot.nodes}


def lent(cidr: str, borrows: Iterable[str]) -> bool:
    """Whether one of the borrowed addresses is of a block."""
    block = ipaddress.ip_network(cidr)
    return any(ipaddress.ip_address(address) in block for address in borrows)

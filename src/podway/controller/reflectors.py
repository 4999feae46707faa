"""Which shape the nodes' sessions have, all with all or with a few that reflect; from one to another. Pure.

The choice stands in the store, so that all nodes agree. It changes when it must: a reflector that is drained,
deleted or was not heard of for GONE is replaced, and one that comes back stays a client. Between two shapes
the sessions of both stand side by side, until every node says that it reaches all by the new ones alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from podway.model.bgp_specs import BGPConfigurationSpec, BGPTopologySpec, Shape
from podway.model.resources import Node
from podway.plan.bgp import shape

GONE = 20.0  # seconds without a sign of a reflector until another is chosen: a restart takes less
CALM = 60.0  # seconds that a node must be well to be chosen after it was not, and that a cluster stays small


class Seen(NamedTuple):
    """``failing``: nodes that the holder hears nothing of, by sessions, probes or the store."""

    nodes: Mapping[str, Node]
    configuration: BGPConfigurationSpec
    topology: BGPTopologySpec | None
    failing: frozenset[str]


class State(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds of the monotonic clock: since when nodes fail, since when they are well again, since when there
    are few enough nodes for a mesh."""

    failing: dict[str, float] = {}
    well: dict[str, float] = {}
    small: float | None = None


class Step(NamedTuple):
    """``write``: what the topology becomes, and ``why``; ``waits``: nodes that a change waits for."""

    state: State
    write: BGPTopologySpec | None
    why: str
    waits: tuple[str, ...]
    deadline: float | None


def step(state: State, seen: Seen, now: float) -> Step:
    """What becomes of the topology now."""
    state = _noted(state, seen, now)
    topology = seen.topology
    gone = frozenset(name for name, since in state.failing.items() if now - since >= GONE)
    unfit = frozenset(state.failing) | {name for name, since in state.well.items() if now - since < CALM}
    standing = topology.new if topology is not None else None
    want = shape(seen.nodes, seen.configuration, standing, gone, unfit)
    if standing is not None and want.mesh and not standing.mesh and seen.configuration.mesh == "auto":
        state = msgspec.structs.replace(state, small=now if state.small is None else state.small)
        if state.small is not None and now - state.small < CALM:
            want = msgspec.structs.replace(standing)
    else:
        state = msgspec.structs.replace(state, small=None)
    return _decided(state, seen, want, gone, _deadline(state, now))


def _noted(state: State, seen: Seen, now: float) -> State:
    failing = {name: state.failing.get(name, now) for name in seen.failing if name in seen.nodes}
    back = {name: now for name in state.failing if name not in failing}
    well = {name: since for name, since in (state.well | back).items() if name not in failing}
    return State(
        failing=failing, well={n: since for n, since in well.items() if now - since < CALM}, small=state.small
    )


def _deadline(state: State, now: float) -> float | None:
    due = [since + GONE for since in state.failing.values()] + [since + CALM for since in state.well.values()]
    due += [] if state.small is None else [state.small + CALM]
    return min((at for at in due if at > now), default=None)


def _decided(state: State, seen: Seen, want: Shape, gone: frozenset[str], deadline: float | None) -> Step:
    topology = seen.topology
    if topology is None:
        made = BGPTopologySpec(generation=1, old=want, new=want)
        return Step(state, made, f"sessions: {want.words}", (), deadline)
    following = topology.generation + 1
    if want != topology.new:
        # what stands on every node is the old shape, until all have said that they have the new
        without = tuple(sorted(gone))
        made = BGPTopologySpec(generation=following, old=topology.old, new=want, without=without)
        why = f"sessions: from {topology.new.words} to {want.words}" + _because(topology.new, gone)
        return Step(state, made, why, (), deadline)
    if topology.old == topology.new:
        return Step(state, None, "", (), deadline)
    if {*topology.without} != gone:
        made = msgspec.structs.replace(topology, generation=following, without=tuple(sorted(gone)))
        return Step(state, made, "", (), deadline)
    waits = tuple(
        sorted(
            name
            for name, node in seen.nodes.items()
            if node.paths and node.sessions != topology.generation and name not in gone
        )
    )
    if waits:
        return Step(state, None, "", waits, deadline)
    made = BGPTopologySpec(generation=following, old=want, new=want)
    return Step(state, made, f"sessions: all nodes have {want.words}", (), deadline)


def _because(before: Shape, gone: frozenset[str]) -> str:
    lost = sorted(gone & set(before.reflectors))
    return f", because nothing is heard of {', '.join(lost)}" if lost else ""

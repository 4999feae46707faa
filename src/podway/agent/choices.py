"""How each peer is reached: what the plan holds and what was proved, of ``podway get peers``."""

from __future__ import annotations

import time

from podway.agent.proofs import Proofs
from podway.agent.reports import PeerPath
from podway.model.objects import MAIN_TABLE, Link, Route
from podway.plan.attach.pod import IPV6_METRIC
from podway.plan.path import Choice, PathKey, State
from podway.plan.planner import Planner


def describe(planner: Planner, proofs: Proofs, loop_time: float) -> tuple[PeerPath, ...]:
    """All paths now, by peer. Reads only what the writer thread replaces as a whole."""
    ahead = time.time() - loop_time
    return tuple(
        _one(planner, key, state, ahead)
        for key, state in sorted(proofs.states.items(), key=lambda item: (item[0].node, item[0]))
    )


def _one(planner: Planner, key: PathKey, state: State, ahead: float) -> PeerPath:
    blocks = planner.targets.blocks(key)
    path, mtu = _planned(planner, blocks)
    reason = state.path.reason
    if path != state.path.choice:
        subjects = {f"peer {key.node} block {cidr}" for cidr in blocks}
        notes = [note.reason for note in planner.notes if note.subject in subjects]
        reason = "; ".join(notes) or f"the network is changing its way: {state.path.choice} comes next"
    return PeerPath(
        peer=key.node,
        network=key.network,
        family=key.family,
        path=path,
        reason=reason,
        since=state.since + ahead,
        mtu=mtu,
        blocks=tuple(blocks),
        address=state.target.address,
        dev=state.target.dev,
        macs=state.target.macs,
        last_probe=state.answered_at + ahead if state.answered_at else 0.0,
        probe_ms=round(state.took * 1000, 3),
        trouble=state.trouble,
    )


def _planned(planner: Planner, blocks: list[str]) -> tuple[Choice, int]:
    """Where packets to the first of ``blocks`` go, and the MTU there."""
    cidr = blocks[0] if blocks else ""
    metric = str(IPV6_METRIC if ":" in cidr else 0)
    route = planner.desired.get(("route", str(MAIN_TABLE), cidr, metric))
    if not isinstance(route, Route):
        return "none", 0
    for uplink in planner.inputs.facts.uplinks:
        if uplink.name == route.dev:
            return "direct", uplink.mtu
    link = planner.desired.get(("link", route.dev))
    return "tunnel", link.mtu or 0 if isinstance(link, Link) else 0

"""What a peer's paths say together: a pure state machine over rounds of probes, and a verdict with a name.

Underlay probes go from node address to node address, overlay probes to an address of the peer's blocks by
the route in force, so that what fails only in one of them can be told by name:

    verdict            underlay            overlay
    ok                 ok                  ok
    dead               silent              silent
    agent-down         refused, no path answers: the node lives, its agent doesn't
    wrong-node         another node answers at its address, or at its block's
    blocked            answered            silent: "UDP 8472 blocked"
    corrupt            answered            only without checksum
    mtu-hole           hole, or overlay hole, with the size
    fragmented         hole                ok: the tunnel's packets are cut on the way
    probes-blocked     silent              answered: pods are fine, the probe's own port is shut
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from podway.model.objects import family_of
from podway.probe import finding
from podway.probe.finding import NEW, SMALL, Path, Reply, Shot, State

Name = Literal[
    "unknown",
    "ok",
    "dead",
    "wrong-node",
    "blocked",
    "corrupt",
    "mtu-hole",
    "agent-down",
    "fragmented",
    "probes-blocked",
]

#: the worst first: of several paths' verdicts that is the peer's
ORDER: tuple[Name, ...] = (
    "dead",
    "wrong-node",
    "blocked",
    "corrupt",
    "mtu-hole",
    "agent-down",
    "fragmented",
    "probes-blocked",
    "unknown",
    "ok",
)


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """``title`` is for people ("UDP 8472 blocked"), then the reason, and what to do."""

    name: Name
    title: str
    reason: str = ""
    fix: str = ""


UNKNOWN = Verdict(name="unknown", title="not probed yet")
OK = Verdict(name="ok", title="ok")


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """Everything known of a peer. ``since``: when the verdict's name became what it is."""

    paths: dict[str, State] = {}
    verdict: Verdict = UNKNOWN
    since: float = 0.0
    diagnose: bool = False
    asked: bool = False

    @property
    def answered(self) -> bool:
        """Whether every path was answered once, whatever the size."""
        return self.asked and all(state.answered for state in self.paths.values())

    @property
    def settled(self) -> bool:
        """Whether the next round can wait for the peer's turn."""
        return all(state.settled for state in self.paths.values())

    def hole(self, path: str) -> int:
        """The size found to pass a path with a hole, 0 where there is none."""
        state = self.paths.get(path, NEW)
        return state.size if state.finding == "hole" else 0


def passes(peer: Peer, paths: Sequence[Path]) -> dict[tuple[str, int], int]:
    """(network, family) → bytes of the largest packet that pods should send, as far as something is known:
    0 where the path carries all. What a tunnel would be cut into fragments for counts as too large."""
    narrow = {family_of(p.target): peer.hole(p.name) for p in paths if p.layer == "underlay"}
    found: dict[tuple[str, int], int] = {}
    for path in paths:
        if path.layer != "overlay":
            continue
        state = peer.paths[path.name]
        outer = narrow.get(path.underlay, 0) - path.around if path.carrier else 0
        sizes = [size for size in (peer.hole(path.name), outer) if SMALL <= size < path.full]
        if sizes or state.finding == "ok":
            found[path.network, family_of(path.target)] = min(sizes, default=0)
    return found


def shots(peer: Peer, paths: Sequence[Path]) -> tuple[Shot, ...]:
    """What the next round sends."""
    states = [(path, peer.paths.get(path.name, NEW)) for path in paths]
    return tuple(s for path, state in states for s in finding.shots(state, path, peer.diagnose))


def step(
    peer: Peer,
    paths: Sequence[Path],
    sent: Sequence[Shot],
    replies: Mapping[Shot, Reply],
    now: float,
    damage: bool = False,
) -> Peer:
    """The peer after one round of ``sent``. Paths that are no more are forgotten."""
    states = {
        path.name: finding.step(
            peer.paths.get(path.name, NEW),
            path,
            tuple(shot for shot in sent if shot.path == path.name),
            replies,
            now,
            damage,
        )
        for path in paths
    }
    verdict = judge(paths, states)
    since = peer.since if verdict.name == peer.verdict.name else now
    fine = all(state.finding == state.suspected == "ok" for state in states.values())
    return Peer(paths=states, verdict=verdict, since=since, diagnose=not fine, asked=True)


def judge(paths: Sequence[Path], states: Mapping[str, State]) -> Verdict:
    """The verdict on a peer from what is confirmed of each path."""
    by_layer: dict[str, list[tuple[Path, State]]] = {"underlay": [], "overlay": []}
    for path in paths:
        by_layer[path.layer].append((path, states[path.name]))
    everything = [*by_layer["underlay"], *by_layer["overlay"]]
    found = [state.finding for _, state in everything]
    if not found:
        return Verdict(
            name="unknown", title="nothing to probe", reason="it has no address that this node uses"
        )
    if "unknown" in found:
        return UNKNOWN
    lives = [state for state in found if state not in ("silent", "refused")]
    if not lives:
        return _unanswered(found)
    made = [_overlay(path, state) for path, state in by_layer["overlay"]]
    made += [_underlay(path, state, by_layer["overlay"]) for path, state in by_layer["underlay"]]
    return min(made, key=lambda verdict: ORDER.index(verdict.name))


def _unanswered(found: Sequence[str]) -> Verdict:
    if "refused" in found:
        return Verdict(
            name="agent-down",
            title="agent down",
            reason="its kernel answers that nobody listens for probes: the node lives, its agent doesn't run",
            fix="start podway agent there; pods that run keep their network",
        )
    return Verdict(
        name="dead",
        title="peer dead",
        reason="neither its node address nor its pods' side answers",
        fix="is it up, and every router on the way? delete the Node only if it is gone for good",
    )


def _foreign(path: Path, state: State) -> Verdict:
    return Verdict(
        name="wrong-node",
        title="another node answers",
        reason=f"node {state.by} answers at {path.name}",
        fix="two nodes have one address, or one has the other's block: see ip address on both",
    )


def _overlay(path: Path, state: State) -> Verdict:
    if state.finding == "foreign":
        return _foreign(path, state)
    if state.finding in ("silent", "refused"):
        return _blocked(path)
    if state.finding == "corrupt":
        return Verdict(
            name="corrupt",
            title="checksum corruption",
            reason=f"{path.name}: datagrams come with wrong UDP checksums, and are dropped for it",
            fix="an offload makes wrong checksums: ethtool -K DEVICE tx-checksum-ip-generic off for the "
            "tunnel's device (pwv…), then for the uplink, on both nodes",
        )
    return _hole(path, state) if state.finding == "hole" else OK


def _blocked(path: Path) -> Verdict:
    if path.carrier:
        return Verdict(
            name="blocked",
            title=f"{path.carrier} blocked",
            reason=f"its node address answers, {path.name} through the tunnel doesn't",
            fix=f"let {path.carrier} pass between the nodes, both ways, in every firewall on the way",
        )
    return Verdict(
        name="blocked",
        title="pods' packets blocked",
        reason=f"its node address answers, {path.name} behind it doesn't",
        fix="let packets with pods' addresses pass between the nodes, or use a tunnel (vxlan)",
    )


def _hole(path: Path, state: State) -> Verdict:
    between = f"somewhere between {state.good} and {state.lost}" if state.good else f"below {path.full}"
    size = str(state.size) if state.size else between
    return Verdict(
        name="mtu-hole",
        title="MTU hole",
        reason=f"{path.name}: packets over {size} bytes vanish, {path.full} should pass",
        fix="raise the MTU of the links between the nodes, or set the network's mtu",
    )


def _underlay(path: Path, state: State, overlay: Sequence[tuple[Path, State]]) -> Verdict:
    if state.finding == "foreign":
        return _foreign(path, state)
    passes = bool(overlay) and all(one.finding == "ok" for _, one in overlay)
    if state.finding == "hole":
        hole = _hole(path, state)
        if not passes:
            return hole
        reason = f"{hole.reason}; the tunnel's are cut into fragments instead"
        title = "MTU hole (fragments)"
        return msgspec.structs.replace(hole, name="fragmented", title=title, reason=reason)
    if state.finding in ("silent", "refused", "corrupt"):
        return Verdict(
            name="probes-blocked",
            title="probes blocked",
            reason=f"pods' side answers, {path.name} doesn't",
            fix="let the probe port pass between the node addresses",
        )
    return OK

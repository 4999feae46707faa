"""What one path to a peer does to probes: a pure state machine.

A *round* sends probes over every path of a peer and waits a moment for answers. As long as all is well
a round is one datagram a path, as large as the path should carry, which may not be fragmented: its answer
proves at once that somebody lives there, that the port is open, that checksums hold and that the MTU does.
When it stays away, the next rounds tell why:

    round            shots on each path                    then
    steady           full                                  all answered: steady; else diagnosing
    diagnosing       small, full, unchecked (overlay)      the same finding twice: confirmed
    searching        and six sizes of good to lost         until lost = good + 1
    hole known       and good, good + 1                    full answered: healed

    finding          what was answered
    ok               the full size
    hole             small, not full: frames beyond some size vanish
    corrupt          only datagrams without a UDP checksum, or damaged ones
    refused          nothing, but the peer's kernel says that nobody listens
    foreign          somebody else, another node
    silent           nothing
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

Finding = Literal["unknown", "ok", "hole", "corrupt", "refused", "foreign", "silent"]
Answered = Literal["answered", "damaged", "refused", "foreign"]
Layer = Literal["underlay", "overlay"]

SMALL = 160  # bytes of an IP packet that passes wherever IP does, and holds the smallest echo
CONFIRM = 2  # diagnosing rounds that must agree: one lost datagram is no verdict
SPREAD = 6  # sizes tried at once in a search


class Path(msgspec.Struct, frozen=True, kw_only=True):
    """A way for probes to a peer. ``full``: bytes of the largest IP packet that it should carry.

    ``carrier`` says what it travels in, "UDP 8472" or "", ``around`` how many bytes that is, and ``underlay``
    of which family its addresses are; ``network`` is "" for the underlay."""

    layer: Layer
    target: str
    full: int
    network: str = ""
    carrier: str = ""
    around: int = 0
    underlay: int = 0

    @property
    def name(self) -> str:
        """ "underlay 192.0.2.2" or "pods 10.244.7.0"."""
        return f"{self.network or self.layer} {self.target}"


class Shot(msgspec.Struct, frozen=True):
    """One probe. ``size``: bytes of the IP packet; without ``checked`` it carries no UDP checksum."""

    path: str
    size: int
    checked: bool = True


class Reply(msgspec.Struct, frozen=True):
    """What came back on a shot, after how many seconds, and which node it said it was."""

    kind: Answered
    seconds: float = 0.0
    by: str = ""


class State(msgspec.Struct, frozen=True, kw_only=True):
    """Of one path. ``finding`` is confirmed, ``suspected`` was found ``times`` rounds in a row.

    Of a hole: every size up to ``good`` passes, ``lost`` doesn't; ``size`` is what the last finished
    search found, 0 before. ``answered`` (a time) and ``rtt`` (seconds) are of the last answer; ``by`` is
    the other node that answered."""

    finding: Finding = "unknown"
    suspected: Finding = "unknown"
    times: int = 0
    good: int = 0
    lost: int = 0
    size: int = 0
    answered: float = 0.0
    rtt: float = 0.0
    by: str = ""

    @property
    def settled(self) -> bool:
        """Nothing is to be found out before the next turn."""
        agreed = self.suspected == self.finding != "unknown"
        return agreed and (self.finding != "hole" or self.lost <= self.good + 1)


NEW = State()


def remembered(size: int, path: Path) -> State:
    """A hole found by an earlier run: in force until a round says otherwise."""
    if not SMALL <= size < path.full:
        return NEW
    return State(
        finding="hole", suspected="hole", times=CONFIRM, good=size, lost=min(size + 1, path.full), size=size
    )


def shots(state: State, path: Path, diagnose: bool) -> tuple[Shot, ...]:
    """What the next round sends over a path."""
    sizes = {path.full}
    if diagnose:
        sizes.add(min(SMALL, path.full))
        sizes.update(_between(state, path))
    made = [Shot(path.name, size) for size in sorted(sizes)]
    if diagnose and path.layer == "overlay":
        made.append(Shot(path.name, min(SMALL, path.full), checked=False))
    return tuple(made)


def _between(state: State, path: Path) -> set[int]:
    if state.suspected != "hole" or not state.good < state.lost <= path.full:
        return set()
    if state.lost == state.good + 1:
        return {state.good, state.lost}
    gap = state.lost - state.good
    tried = min(SPREAD, gap - 1)
    return {state.good + gap * number // (tried + 1) for number in range(1, tried + 1)}


def found(path: Path, replies: Mapping[Shot, Reply], diagnosed: bool, damage: bool) -> Finding:
    """What one round says of a path. ``damage``: the kernel dropped datagrams for a wrong checksum in it."""
    mine = {shot: reply.kind for shot, reply in replies.items() if shot.path == path.name}
    answered = {shot.size for shot, kind in mine.items() if kind == "answered" and shot.checked}
    if path.full in answered:
        return "ok"
    if "foreign" in mine.values():
        return "foreign"
    if not diagnosed:
        return "unknown"
    if answered:
        return "hole"
    unchecked = any(kind == "answered" for kind in mine.values())
    if unchecked or "damaged" in mine.values():
        return "corrupt"
    if "refused" in mine.values():
        return "refused"
    return "corrupt" if damage and path.layer == "overlay" else "silent"


def step(
    state: State,
    path: Path,
    sent: tuple[Shot, ...],
    replies: Mapping[Shot, Reply],
    now: float,
    damage: bool = False,
) -> State:
    """The state after one round. ``sent``: the round's shots over this path."""
    diagnosed = len(sent) > 1
    this = found(path, replies, diagnosed, damage)
    mine = [reply for shot, reply in replies.items() if shot.path == path.name]
    times = [reply.seconds for reply in mine if reply.kind == "answered"]
    if times:
        state = msgspec.structs.replace(state, answered=now, rtt=min(times))
    if this == "ok":
        return State(finding="ok", suspected="ok", times=CONFIRM, answered=state.answered, rtt=state.rtt)
    if this == "unknown":  # an unanswered steady round says nothing yet
        return msgspec.structs.replace(state, suspected="unknown", times=0)
    agreed = min(CONFIRM, state.times + 1) if this == state.suspected else 1
    finding = this if agreed == CONFIRM else state.finding
    by = next((reply.by for reply in mine if reply.kind == "foreign"), "")
    made = msgspec.structs.replace(state, finding=finding, suspected=this, times=agreed, by=by)
    return _narrowed(made, sent, replies) if this == "hole" else msgspec.structs.replace(made, good=0, lost=0)


def _narrowed(state: State, sent: tuple[Shot, ...], replies: Mapping[Shot, Reply]) -> State:
    """A search's next step: what was answered is the new lower end, what wasn't above it the upper."""
    sizes = {shot.size for shot in sent if shot.checked}
    passed = {s.size for s, r in replies.items() if s in sent and s.checked and r.kind == "answered"}
    good = max(passed | ({state.good} - sizes))
    lost = min(size for size in sizes - passed | {state.lost} if size > good)
    size = good if lost == good + 1 else state.size
    return msgspec.structs.replace(state, good=good, lost=lost, size=size)

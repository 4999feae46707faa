"""What is shown of BGP sessions, and remembered between looks at BIRD: since when, how often lost. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from podway.bird.replies import Counts, SessionState, Standing
from podway.model.bgp import Session

RECENT = 30.0  # seconds until what was counted is of no interest any more
LATELY = 300.0  # seconds in which losses are counted together
UP = "Established"


class PeerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One session as ``podway bgp peers`` shows it. ``since``: seconds (wall clock), up or not up, by BIRD's
    word: whenever the agent was started."""

    name: str
    description: str
    neighbor: str
    remote_as: int
    state: str
    since: float
    why: str
    flaps: int
    bfd: str
    channels: dict[str, Counts]

    @property
    def shown(self) -> str:
        """What people call the peer."""
        return self.description or self.neighbor


class BgpStatus(msgspec.Struct, frozen=True, kw_only=True):
    """``version`` "" where no BIRD is needed or none was found; ``problems`` in sentences."""

    version: str = ""
    pid: int | None = None
    router_id: str = ""
    local_as: int = 0
    own: tuple[str, ...] = ()
    advertised: tuple[str, ...] = ()
    reflector: bool = False
    draining: bool = False
    peers: tuple[PeerStatus, ...] = ()
    problems: tuple[str, ...] = ()


class Turn(NamedTuple):
    """A session that came up, or was lost; ``lasted``: seconds of what it was before."""

    name: str
    up: bool
    lasted: float


def called(session: Session, seen: Mapping[str, SessionState]) -> list[Session]:
    """The session as it is to be shown: in place of one that takes calls from a prefix, one for each that
    called. BIRD numbers those, and keeps them when they are lost."""
    if not session.dynamic:
        return [session]
    theirs = re.compile(rf"{session.name}_\d+")
    return [
        msgspec.structs.replace(session, name=name, neighbor=one.neighbor)
        for name, one in seen.items()
        if theirs.fullmatch(name) and one.neighbor
    ] or [session]


class _Seen:
    def __init__(self, up: bool, since: float) -> None:
        self.up = up
        self.since = since
        self.flaps = 0
        self.losses: list[float] = []


class History:
    """Sessions by name. Times are seconds of the wall clock; ``began``: when they were looked at first."""

    def __init__(self, began: float) -> None:
        self._began = began
        self._seen: dict[str, _Seen] = {}

    def look(self, standings: Mapping[str, Standing], now: float) -> list[Turn]:
        """Take in every session as it is; who turned. One that is configured no more is forgotten, and of one
        that was up before there was anybody to look it is no news."""
        turns, before = [], self._seen
        self._seen = {}
        for name, standing in standings.items():
            up, told = standing.state == UP, min(standing.since, now) or now
            seen = self._seen[name] = before.get(name) or _Seen(up and told < self._began, told)
            if up == seen.up:
                seen.since = told if up and standing.since else seen.since
                continue
            turned = told if up else now  # BIRD counts anew at each try of one that is down
            turns.append(Turn(name, up, max(0.0, turned - seen.since)))
            seen.up, seen.since = up, turned
            if not up:
                seen.flaps += 1
                seen.losses = [at for at in seen.losses if at > now - LATELY] + [now]
        return turns

    def interrupted(self, now: float) -> None:
        """BIRD itself has ended: no session is up, and no peer is the cause."""
        for seen in self._seen.values():
            if seen.up:
                seen.up, seen.since = False, now

    def since(self, name: str, now: float) -> float:
        """When it came up, or was lost, or was first seen; ``now`` for one that never was."""
        seen = self._seen.get(name)
        return seen.since if seen is not None else now

    def flaps(self, name: str) -> int:
        """How often it was lost."""
        seen = self._seen.get(name)
        return seen.flaps if seen is not None else 0

    def lost_lately(self, name: str, now: float) -> int:
        """How often it was lost in the last ``LATELY`` seconds."""
        seen = self._seen.get(name)
        return sum(at > now - LATELY for at in seen.losses) if seen is not None else 0


class Recently:
    """What two counters grew by when they last grew, until that was ``RECENT`` seconds ago."""

    def __init__(self) -> None:
        self._before: tuple[int, int] | None = None
        self._moved = 0.0
        self.grown = (0, 0)

    def take(self, counted: tuple[int, int], now: float) -> None:
        """The counters as they stand at ``now`` (monotonic seconds)."""
        if self._before is not None and counted != self._before:
            self.grown = counted[0] - self._before[0], counted[1] - self._before[1]
            self._moved = now
        elif now - self._moved > RECENT:
            self.grown = 0, 0
        self._before = counted

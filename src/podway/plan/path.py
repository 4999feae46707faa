"""Direct, through the tunnel, or not at all: how packets to one peer go, and why. A pure state machine.

Direct is what must be proved: asked on the uplink, the peer's address is answered for by a MAC that the
peer publishes and by no other (a proxy-ARP router answers too), and a question sent in a frame to that MAC
is answered from an address in the peer's block (a segment may carry nodes' packets and filter pods').

An *attempt* asks both at once and is over when both came, or at its deadline. What follows:

    found               path is direct                             path isn't
    proved              stays                                      direct, unless it was left lately
    another MAC         left after LEAVE attempts in a row         stays
    nobody              tunnel: left after LEAVE; host-gw: stays   stays
    block alone silent  left after LEAVE                           stays
    agent silent too    stays: the agent may be down, not the way  stays

A host-gw route isn't taken away for silence: there is nothing better to replace it by. Whoever left direct
waits before taking it again; twice as long each time that a tunnel takes over, so that a shaking link
doesn't shake the routes.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

Choice = Literal["direct", "tunnel", "none"]
Fallback = Literal["tunnel", "none"]

LEAVE = 3  # attempts in a row that speak against direct before it is left
FIRST = 0.002  # seconds of the first attempt for a path that isn't direct: its peer may only be starting
STEADY = 0.25  # the same for one that is: nothing is lost by waiting
WATCH = 5.0  # seconds between attempts while all is well, and at most otherwise
GROWTH = 1.5  # of both, with every further attempt in a row
HOLD, LONGEST_HOLD = 2.0, 300.0  # seconds before direct is taken again after it was left
FORGET = 600.0  # seconds without leaving after which the hold begins anew
SUSPICION = 1.0  # seconds between attempts that somebody's doubt may start

ASKING = "asking"
STOOD = "stood before this agent started"
UNPUBLISHED = "no agent of that node has published a MAC to compare an answer with"


class PathKey(NamedTuple):
    """Blocks of one family of one node in one network go the same way."""

    network: str
    node: str
    family: int


class Chosen(msgspec.Struct, frozen=True):
    """What is chosen, and why."""

    choice: Choice
    reason: str = ""


class Pace(NamedTuple):
    """Seconds: of the first attempt for a path that isn't direct, and between attempts while all is well."""

    first: float = FIRST
    watch: float = WATCH


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """What would have to be proved, or (``obstacle``) why direct is out of the question.

    ``fallback`` is what there is without direct. ``address`` is the peer's, on the segment of uplink ``dev``
    where this node has ``source``; ``macs`` are what the peer publishes; ``inside`` is in its block."""

    fallback: Fallback
    obstacle: str = ""
    address: str = ""
    dev: str = ""
    source: str = ""
    macs: tuple[str, ...] = ()
    inside: str = ""

    @property
    def provable(self) -> bool:
        """Whether there is something to ask, and something to compare the answer with."""
        return not self.obstacle and bool(self.macs)


class Declared(msgspec.Struct, frozen=True):
    """The target is another one now."""

    target: Target


class Heard(msgspec.Struct, frozen=True):
    """``mac`` answers for the peer's address on the uplink."""

    mac: str


class Echoed(msgspec.Struct, frozen=True):
    """A question was answered: from ``inside`` the block, or from the peer's address by any way."""

    inside: bool


class Suspected(msgspec.Struct, frozen=True):
    """Something speaks for asking again now."""


class Due(msgspec.Struct, frozen=True):
    """The deadline has come."""


Event = Declared | Heard | Echoed | Suspected | Due


class State(msgspec.Struct, frozen=True, kw_only=True):
    """One path. Times in seconds of the caller's clock. Whoever sees ``attempt`` grow has to ask.

    ``trouble`` is what the last attempt found amiss; ``took`` how long the last answers did, which came
    ``answered_at``."""

    target: Target
    path: Chosen
    since: float
    deadline: float | None = None
    attempt: int = 0
    asking: bool = False
    careful: bool = False  # another MAC may answer after the right one: wait for the deadline
    began: float = 0.0
    mac: str = ""
    proved_mac: str = ""
    stranger: str = ""
    inside: bool = False
    alive: bool = False
    failures: int = 0
    trouble: str = ""
    proved_at: float = 0.0
    answered_at: float = 0.0
    took: float = 0.0
    left: int = 0
    left_at: float = 0.0
    hold_until: float = 0.0

    @property
    def is_doubtful(self) -> bool:
        """Ask everybody on the segment, and whether the peer's agent answers at all."""
        return self.failures > 0 or self.careful or not self.proved_at


def unasked(target: Target) -> Chosen:
    """What is chosen before anything was asked, and where nothing can be asked."""
    if target.obstacle:
        return Chosen(target.fallback, target.obstacle)
    if target.macs:
        return Chosen(target.fallback, ASKING)
    if target.fallback == "tunnel":
        return Chosen("tunnel", UNPUBLISHED)
    # declared by hand, or of an earlier version: there is nothing to compare with but the declaration
    return Chosen("direct", f"as declared: {UNPUBLISHED}")


def begin(target: Target, stood: bool, now: float) -> State:
    """A path that nothing is known of but whether a direct route ``stood`` already: then it stays."""
    path = Chosen("direct", STOOD) if stood else unasked(target)
    return _take_up(State(target=target, path=path, since=now), now)


def step(state: State, event: Event, now: float, pace: Pace) -> State:
    """The state after ``event``."""
    match event:
        case Declared(target):
            return state if target == state.target else _declared(state, target, now)
        case _ if not state.target.provable:
            return state
        case Heard(mac):
            return _heard(state, mac, now, pace)
        case Echoed(inside):
            state = _set(state, inside=True) if inside else _set(state, alive=True)
            return _complete(state, now, pace)
        case Suspected():
            return _suspected(state, now, pace)
        case Due():
            return _conclude(state, now, pace) if state.asking else _ask(state, now, pace, state.careful)


def _set(state: State, **fields: object) -> State:
    return msgspec.structs.replace(state, **fields)


def _declared(state: State, target: Target, now: float) -> State:
    old = state.target
    state = _set(state, target=target, failures=0, trouble="")
    moved = (old.address, old.dev) != (target.address, target.dev)
    if moved or (state.path.choice != "direct" and state.path.choice != target.fallback):
        state = _choose(_set(state, proved_at=0.0), Chosen(target.fallback, ASKING), now)
    return _take_up(state, now)


def _take_up(state: State, now: float) -> State:
    if state.target.provable:
        return _ask(state, now, Pace())
    return _choose(_set(state, asking=False, deadline=None), unasked(state.target), now)


def _choose(state: State, path: Chosen, now: float) -> State:
    since = state.since if path.choice == state.path.choice else now
    return _set(state, path=path, since=since)


def _ask(state: State, now: float, pace: Pace, suspected: bool = False) -> State:
    base = STEADY if state.path.choice == "direct" else pace.first
    patience = STEADY if suspected else min(base * GROWTH ** min(state.failures, 40), pace.watch)
    return _set(
        state,
        attempt=state.attempt + 1,
        asking=True,
        careful=suspected or bool(state.stranger),
        began=now,
        deadline=now + patience,
        mac="",
        stranger="",
        inside=False,
        alive=False,
    )


def _heard(state: State, mac: str, now: float, pace: Pace) -> State:
    if mac in state.target.macs:
        return _complete(_set(state, mac=mac), now, pace)
    if not state.asking:
        return _suspected(state, now, pace)
    return _set(state, stranger=mac)


def _complete(state: State, now: float, pace: Pace) -> State:
    if not (state.asking and state.mac and state.inside):
        return state
    if state.answered_at <= state.began:
        state = _set(state, answered_at=now, took=now - state.began)
    return state if state.stranger or state.careful else _conclude(state, now, pace)


def _suspected(state: State, now: float, pace: Pace) -> State:
    soonest = state.began + SUSPICION
    if now >= soonest:
        return _ask(state, now, pace, suspected=True)
    return _set(state, careful=True, deadline=min(state.deadline or soonest, soonest))


def _conclude(state: State, now: float, pace: Pace) -> State:
    if state.mac and state.inside and not state.stranger:
        return _proved(state, now, pace)
    state = _set(state, failures=state.failures + 1, trouble=_finding(state))
    if state.path.choice != "direct":
        state = _choose(state, Chosen(state.target.fallback, state.trouble), now)
    elif state.failures >= LEAVE and _speaks_against(state):
        state = _leave(state, now)
    return _ask(state, now, pace)


def _proved(state: State, now: float, pace: Pace) -> State:
    state = _set(
        state,
        asking=False,
        careful=False,
        failures=0,
        trouble="",
        proved_at=now,
        proved_mac=state.mac,
        deadline=now + pace.watch,
    )
    if state.path.choice != "direct" and now < state.hold_until:
        words = f"proved again, and left {state.left} times lately: direct when it has stayed so for a while"
        return _set(_choose(state, Chosen(state.target.fallback, words), now), deadline=state.hold_until)
    words = f"proved: {state.mac} answers for {state.target.address}, and {state.target.inside} behind it"
    return _choose(state, Chosen("direct", words), now)


def _speaks_against(state: State) -> bool:
    if state.stranger:
        return True
    if state.mac:
        return state.alive and not state.inside
    return state.target.fallback == "tunnel"


def _leave(state: State, now: float) -> State:
    left = state.left + 1 if now - state.left_at < FORGET else 1
    hold = min(LONGEST_HOLD, HOLD * 2 ** min(left - 1, 30))
    if state.target.fallback == "none":
        hold = HOLD  # longer would shelter nothing, and only keep the peer away
    state = _choose(state, Chosen(state.target.fallback, state.trouble), now)
    return _set(state, left=left, left_at=now, hold_until=now + hold)


def _finding(state: State) -> str:
    target = state.target
    if state.stranger:
        known = " or ".join(target.macs)
        why = "a router answers in its place (proxy ARP), or two machines have that address"
        words = f"{state.stranger} answers for {target.address} on {target.dev}"
        return f"{words}, the node publishes {known}: {why}"
    if not state.mac:
        words = f"nobody on {target.dev} answers for {target.address}"
        return f"{words}, though its agent does by another way" if state.alive else words
    words = f"{target.inside} in its block does not answer over {target.dev}"
    if state.alive:
        return f"{words}, though its agent does: packets of pods are filtered there"
    return f"{words}, nor does its agent at {target.address}"

"""The path's state machine: direct only by proof, left only for a reason, never shaking."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from podway.plan import path
from podway.plan.path import (
    Declared,
    Due,
    Echoed,
    Event,
    Heard,
    State,
    Suspected,
    Target,
    begin,
    step,
)

MAC, OTHER = "02:00:00:00:00:02", "02:00:00:00:00:99"
WATCH = 10.0
PACE = path.Pace(watch=WATCH)


def target(fallback: str = "tunnel", **more: object) -> Target:
    """A peer on the segment of up0."""
    given = {
        "address": "192.0.2.2",
        "dev": "up0",
        "source": "192.0.2.1",
        "macs": (MAC,),
        "inside": "10.1.2.1",
    }
    return Target(fallback=fallback, **given | more)  # type: ignore[arg-type]


class Clock:
    """A state and its time; answers each attempt as the network would."""

    def __init__(self, state: State, now: float = 0.0) -> None:
        self.state, self.now = state, now

    def tell(self, *events: Event) -> State:
        """Events at the same moment."""
        for event in events:
            self.state = step(self.state, event, self.now, PACE)
        return self.state

    def run(self, seconds: float, *answers: Event) -> State:
        """Let time pass; every attempt gets ``answers`` at once."""
        end = self.now + seconds
        attempt = 0
        while True:
            if self.state.asking and self.state.attempt != attempt:
                attempt = self.state.attempt
                self.tell(*answers)
                continue
            if self.state.deadline is None or self.state.deadline > end:
                self.now = end
                return self.state
            self.now = max(self.now, self.state.deadline)
            self.tell(Due())


PROOF = (Heard(MAC), Echoed(inside=True))


def _proved(fallback: str = "tunnel") -> Clock:
    clock = Clock(begin(target(fallback), False, 0.0))
    clock.tell(*PROOF)
    assert clock.state.path.choice == "direct" and not clock.state.asking
    return clock


def test_the_first_proof_is_asked_for_at_once_and_enough() -> None:
    """Nothing waits for a timer: joining isn't slowed."""
    state = begin(target("none"), False, 0.0)
    assert state.asking and state.attempt == 1 and state.path == path.Chosen("none", path.ASKING)
    clock = Clock(state, 0.0005)
    clock.tell(*PROOF)
    assert clock.state.path.choice == "direct" and clock.state.since == 0.0005
    assert 0.0004 < clock.state.took < 0.0006


def test_neither_half_alone_is_a_proof() -> None:
    """The right MAC without the block, the block without the MAC, and any other MAC."""
    for half, words in (
        ((Heard(MAC),), "does not answer"),
        ((Echoed(inside=True),), "nobody on up0"),
        ((Heard(OTHER), Echoed(inside=True)), "proxy ARP"),
        ((Heard(MAC), Echoed(inside=True), Heard(OTHER)), "two machines"),
    ):
        clock = Clock(begin(target(), False, 0.0))
        clock.run(30.0, *half)
        assert clock.state.path.choice == "tunnel", half
        assert words in clock.state.path.reason


def test_a_second_voice_is_heard_when_there_is_doubt() -> None:
    """Once another MAC has answered, the right one alone is waited for to the deadline."""
    clock = Clock(begin(target(), False, 0.0))
    clock.run(1.0, Heard(OTHER))
    clock.run(30.0, *PROOF, Heard(OTHER))
    assert clock.state.path.choice == "tunnel" and OTHER in clock.state.path.reason
    clock.run(30.0, *PROOF)
    assert clock.state.path.choice == "direct"


def test_what_stood_before_a_restart_stays_until_it_is_refuted() -> None:
    """A restarted agent changes nothing until it knows better; silence alone removes no host-gw route."""
    clock = Clock(begin(target("none"), True, 0.0))
    assert clock.state.path.choice == "direct"
    clock.run(600.0)
    assert clock.state.path.choice == "direct" and "nobody on up0" in clock.state.trouble
    clock.run(30.0, Heard(OTHER))
    assert clock.state.path.choice == "none" and "proxy ARP" in clock.state.path.reason


def test_direct_is_left_after_three_attempts_and_taken_again_later_each_time() -> None:
    """A tunnel takes over within seconds; who comes and goes is held off twice as long each time."""
    clock = _proved()
    waits = []
    for _ in range(6):
        clock.run(WATCH + 3.0)
        assert clock.state.path.choice == "tunnel"
        left = clock.state.left_at
        clock.run(400.0, *PROOF)
        assert clock.state.path.choice == "direct"
        waits.append(clock.state.since - left)
    assert all(wait >= path.HOLD * 2**number for number, wait in enumerate(waits)), waits
    clock.run(path.FORGET + 1.0, *PROOF)
    clock.run(WATCH * 2)
    assert clock.state.left == 1


def test_an_agent_that_is_down_costs_no_path() -> None:
    """ARP is the kernel's: it answers while the agent is restarted, and the path stays direct."""
    clock = _proved()
    clock.run(600.0, Heard(MAC))
    assert clock.state.path.choice == "direct" and "nor does its agent" in clock.state.trouble


def test_a_segment_that_filters_pods_is_left() -> None:
    """The agent answers at its node's address and not from its block: the way is at fault."""
    clock = _proved("none")
    clock.run(30.0, Heard(MAC), Echoed(inside=False))
    assert clock.state.path.choice == "none" and "filtered" in clock.state.path.reason


def test_who_publishes_nothing_is_taken_at_its_word_where_there_is_no_tunnel() -> None:
    """A node declared by hand, or of an earlier version, keeps its host-gw route; a tunnel stays a tunnel."""
    state = begin(target("none", macs=()), False, 0.0)
    assert state.path.choice == "direct" and state.path.reason.startswith("as declared") and not state.asking
    assert begin(target(macs=()), False, 0.0).path.choice == "tunnel"
    clock = Clock(state)
    clock.tell(Declared(target("none")))
    assert clock.state.asking and clock.state.path.choice == "direct"


def test_a_peer_elsewhere_is_left_at_once() -> None:
    """A new address is another path; one that is not on-link has nothing to prove."""
    clock = _proved()
    clock.tell(Declared(target(address="192.0.2.9")))
    assert clock.state.path == path.Chosen("tunnel", path.ASKING) and clock.state.asking
    clock.tell(*PROOF)
    clock.tell(Declared(Target(fallback="tunnel", obstacle="203.0.113.2 is not on-link")))
    assert clock.state.path.choice == "tunnel" and "not on-link" in clock.state.path.reason
    assert clock.state.deadline is None


def test_new_macs_or_blocks_are_proved_without_leaving() -> None:
    """What only has to be asked again stays as it is meanwhile."""
    clock = _proved()
    for new in (target(macs=(MAC, OTHER)), target(inside="10.1.7.1")):
        clock.tell(Declared(new))
        assert clock.state.path.choice == "direct" and clock.state.asking
        clock.tell(*PROOF)
        assert not clock.state.asking


def test_suspicion_asks_everybody_at_once_but_not_all_the_time() -> None:
    """The kernel's news starts an attempt, at most one a second."""
    clock = _proved()
    clock.now = 5.0
    clock.tell(Suspected())
    assert clock.state.asking and clock.state.is_doubtful
    before = clock.state.attempt
    clock.run(0.9, *PROOF)
    for _ in range(50):
        clock.tell(Suspected())
    assert clock.state.attempt <= before + 1
    clock.run(3.0, *PROOF)
    assert clock.state.path.choice == "direct"


events = st.one_of(
    st.sampled_from(
        [Heard(MAC), Heard(OTHER), Echoed(inside=True), Echoed(inside=False), Suspected(), Due()]
    ),
    st.builds(
        Declared,
        st.sampled_from(
            [
                target(),
                target("none"),
                target(macs=()),
                target(address="192.0.2.9"),
                Target(fallback="none", obstacle="no"),
            ]
        ),
    ),
)


@settings(max_examples=300)
@given(
    st.sampled_from(["tunnel", "none"]),
    st.booleans(),
    st.lists(st.tuples(events, st.floats(0, 3)), max_size=60),
)
def test_whatever_comes(fallback: str, stood: bool, moves: list[tuple[Event, float]]) -> None:
    """Direct begins only with a complete proof or a declaration, and while asking there is a deadline."""
    state = begin(target(fallback), stood, 0.0)
    now = 0.0
    for event, seconds in moves:
        now += seconds
        before, state = state, step(state, event, now, PACE)
        assert state.path.choice in ("direct", state.target.fallback)
        assert not state.asking or (state.deadline is not None and state.target.provable)
        assert state.deadline is not None or not state.target.provable
        if state.path.choice == "direct" and before.path.choice != "direct":
            assert state.proved_at == now or state.path.reason.startswith("as declared")
            assert now >= state.hold_until or not state.target.provable
        assert state.attempt in (before.attempt, before.attempt + 1)

"""The verdict machine against simulated networks: every fault by its name, the hole to the byte, healing."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from podway.probe import finding, verdict
from podway.probe.finding import SMALL, Path, Reply, Shot
from podway.probe.verdict import ORDER, Peer

UNDERLAY = Path(layer="underlay", target="192.0.2.2", full=1500)
OVERLAY = Path(layer="overlay", target="10.244.2.0", full=1450, network="pods", carrier="UDP 8472")
PATHS = (UNDERLAY, OVERLAY)


class Wire(Struct, frozen=True, kw_only=True):
    """What a simulated path does. ``passes``: bytes of the largest packet."""

    alive: bool = True
    listens: bool = True
    passes: int = 9000
    corrupts: bool = False
    foreign: str = ""

    def reply(self, shot: Shot) -> Reply | None:
        """What comes back."""
        if not self.alive or shot.size > self.passes or (self.corrupts and shot.checked):
            return None
        if not self.listens:
            return Reply("refused")
        return Reply("foreign", 0.001, self.foreign) if self.foreign else Reply("answered", 0.001)


def play(peer: Peer, underlay: Wire, overlay: Wire, rounds: int, lost: frozenset[int] = frozenset()) -> Peer:
    """``rounds`` rounds over both paths; datagrams numbered ``lost`` vanish on top."""
    wires = {UNDERLAY.name: underlay, OVERLAY.name: overlay}
    number = 0
    for now in range(rounds):
        sent = verdict.shots(peer, PATHS)
        replies: dict[Shot, Reply] = {}
        for shot in sent:
            number += 1
            reply = wires[shot.path].reply(shot)
            if reply is not None and number not in lost:
                replies[shot] = reply
        peer = verdict.step(peer, PATHS, sent, replies, float(now + 1))
    return peer


FINE = Wire()
DEAD = Wire(alive=False)
UNHEARD = Wire(listens=False)
SHRUNK = Wire(passes=1400)
FAULTS = {
    "ok": (FINE, FINE),
    "dead": (DEAD, DEAD),
    "agent-down": (UNHEARD, UNHEARD),
    "blocked": (FINE, DEAD),
    "corrupt": (FINE, Wire(corrupts=True)),
    "mtu-hole": (SHRUNK, Wire(passes=1350)),
    "fragmented": (SHRUNK, FINE),
    "probes-blocked": (DEAD, FINE),
    "wrong-node": (FINE, Wire(foreign="c")),
}
faults = st.sampled_from(sorted(FAULTS))
LONG = 9  # rounds in which everything is found out


@given(faults, faults)
def test_every_fault_has_its_name_whatever_was_before(before: str, now: str) -> None:
    """From any state the verdict becomes the present fault's, and nothing is left to find out."""
    peer = play(Peer(), *FAULTS[before], rounds=LONG)
    assert peer.verdict.name == before and peer.settled
    peer = play(peer, *FAULTS[now], rounds=LONG)
    assert peer.verdict.name == now and peer.settled


def test_all_names_are_ranked_and_reached() -> None:
    """No verdict is without a simulated fault."""
    assert set(ORDER) == {*FAULTS, "unknown"}


@given(faults)
def test_a_fault_needs_to_be_seen_again(name: str) -> None:
    """What one round of a peer that is well says changes no verdict; neither does one without an answer."""
    well = play(Peer(), FINE, FINE, rounds=2)
    peer = play(well, *FAULTS[name], rounds=1 if name == "wrong-node" else 2)
    assert peer.verdict.name == "ok" and peer.since == well.since


@given(st.sets(st.integers(1, 40), max_size=1))
def test_a_lost_datagram_is_no_verdict(lost: set[int]) -> None:
    """Of a network that loses one datagram, nothing is ever said."""
    peer = play(Peer(), FINE, FINE, rounds=12, lost=frozenset(lost))
    assert peer.verdict.name == "ok"


@settings(max_examples=200)
@given(st.integers(SMALL, OVERLAY.full - 1))
def test_a_hole_is_found_to_the_byte(size: int) -> None:
    """Whatever size passes is what is found, in a few rounds of a handful of datagrams."""
    peer = Peer()
    wire = Wire(passes=size)
    rounds = 0
    while not peer.settled or peer.verdict.name != "mtu-hole":
        assert len(verdict.shots(peer, PATHS)) <= 14
        peer = play(peer, FINE, wire, rounds=1)
        rounds += 1
    assert rounds <= 7 and peer.hole(OVERLAY.name) == size
    assert f"over {size} bytes vanish" in peer.verdict.reason


@settings(max_examples=200)
@given(
    st.integers(SMALL, OVERLAY.full - 1),
    st.integers(SMALL, OVERLAY.full - 1),
    st.sets(st.integers(1, 30), max_size=3),
)
def test_a_hole_that_changes_is_followed(first: int, second: int, lost: set[int]) -> None:
    """A hole that grows or shrinks is found again, also when datagrams get lost."""
    peer = play(Peer(), FINE, Wire(passes=first), rounds=LONG)
    peer = play(peer, FINE, Wire(passes=second), rounds=LONG, lost=frozenset(lost))
    peer = play(peer, FINE, Wire(passes=second), rounds=LONG)
    assert peer.hole(OVERLAY.name) == second and peer.settled


@given(st.integers(SMALL, OVERLAY.full - 1))
def test_a_remembered_hole_is_in_force_and_looked_at_first(size: int) -> None:
    """After a restart it takes one round to know that it is still there, or gone."""
    known = Peer(paths={OVERLAY.name: finding.remembered(size, OVERLAY)}, diagnose=True)
    still = play(known, FINE, Wire(passes=size), rounds=1)
    assert still.hole(OVERLAY.name) == size and still.verdict.name != "ok"
    assert play(known, FINE, FINE, rounds=1).verdict.name == "ok"


def test_outer_checksums_are_told_by_the_kernels_counter() -> None:
    """Silence in the tunnel while the kernel drops datagrams for their checksums is corruption."""
    peer = Peer()
    for now in range(LONG):
        sent = verdict.shots(peer, PATHS)
        replies = {shot: Reply("answered") for shot in sent if shot.path == UNDERLAY.name}
        peer = verdict.step(peer, PATHS, sent, replies, float(now), damage=True)
    assert peer.verdict.name == "corrupt"


def test_without_a_tunnel_other_words_are_used() -> None:
    """What is blocked is named: the tunnel's port, or packets with pods' addresses."""
    plain = Path(layer="overlay", target="10.244.2.1", full=1500, network="pods")
    peer = Peer()
    for now in range(LONG):
        sent = verdict.shots(peer, (UNDERLAY, plain))
        replies = {shot: Reply("answered") for shot in sent if shot.path == UNDERLAY.name}
        peer = verdict.step(peer, (UNDERLAY, plain), sent, replies, float(now))
    assert peer.verdict.title == "pods' packets blocked"


def test_a_peer_without_paths_is_waited_for_by_nobody() -> None:
    """It counts as answered, and is said to be unknown."""
    peer = verdict.step(Peer(), (), (), {}, 1.0)
    assert peer.answered and peer.settled and peer.verdict.name == "unknown"


def test_when_all_is_well_a_round_is_one_datagram_a_path() -> None:
    """The cost of knowing that nothing is wrong."""
    peer = play(Peer(), FINE, FINE, rounds=3)
    assert verdict.shots(peer, PATHS) == (Shot(UNDERLAY.name, 1500), Shot(OVERLAY.name, 1450))

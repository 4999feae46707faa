"""Why a BGP session is down, in words, and what is remembered between looks. No kernel, no BIRD."""

from __future__ import annotations

import re

import msgspec
import pytest
import speakers

from podway.agent.sessions import LATELY, RECENT, History, Recently, Turn, called
from podway.bird.meaning import Clues, why
from podway.bird.replies import SessionState, Standing
from podway.model.bgp import Session

TOR = Session(**speakers.TOR | {"hold": 9, "bfd": "graceful"})
NODE = Session(**speakers.NODE)


def said(state: str, error: str = "", session: Session = TOR, keeps: bool = True, **clues: object) -> str:
    seen = SessionState(name=session.name, state=state, last_error=error, keeps=keeps)
    return why(session, seen, msgspec.convert(clues, Clues))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("Socket: Connection refused", "nothing listens on TCP port 179"),
        ("Socket: No route to host", "no way leads to 192.0.2.2"),
        ("BGP Error: Bad peer AS", "it is not of AS 4200000001"),
        ("Received: Bad peer AS", "it expects another AS than 64512"),
        ("Received: Hold timer expired", "it heard nothing of this node"),
        ("Received: Unknown error 6.10", "UDP port 3784 let through from here to there"),
        ("BFD session down", "192.0.2.2 or the way to it is down"),
        ("Received: Maximum number of prefixes reached", "this node told it more prefixes than it takes"),
        ("Error: Link down", "this node's link to 192.0.2.2 has no carrier"),
        ("Socket: Connection reset by peer", "has this session shut down, or does not know 192.0.2.1"),
        ("Socket: Connection closed", "it hung up: its BGP speaker ended"),
        ("Received: Administrative reset", "its operator reset it"),
        ("Automatic shutdown: Route limit exceeded", "it told more than"),
        ("Received: Administrative shutdown", "shut down by its operator"),
        ("Received: Connection rejected", "does not know 192.0.2.1"),
        ("Something new", "Something new"),
    ],
)
def test_the_last_error_and_what_it_means(error: str, words: str) -> None:
    found = said("Idle", error)
    assert words in found and "Error" not in found.replace("Unknown error", "")
    assert found.startswith(re.sub("^(Socket|BGP Error|Error): ", "", error))


@pytest.mark.parametrize(
    ("state", "bfd", "words"),
    [
        ("Connect", "Down", "it or the way to it is down, or TCP port 179 is blocked underway"),
        ("Connect", "Up", "BFD hears it, so it is up: TCP port 179 is blocked underway"),
        ("OpenSent", "Up", "TCP port 179 there is open and silent: its BGP speaker hangs"),
    ],
)
@pytest.mark.parametrize("error", ["", "BGP Error: Hold timer expired"])
def test_silence_is_told_apart_by_how_far_one_comes(state: str, bfd: str, words: str, error: str) -> None:
    assert words in said(state, error, bfd=bfd)


def test_a_peer_that_forgets_routes_of_whoever_restarts() -> None:
    assert "drops this node's routes whenever BIRD restarts" in said("Established", bfd="Up", keeps=False)
    aware = msgspec.structs.replace(TOR, graceful="aware")
    assert said("Established", bfd="Up", keeps=False, session=aware) == ""
    assert said("Established", keeps=False, session=NODE) == ""


def test_where_no_link_leads_there() -> None:
    """BIRD waits without a word for a link into the neighbour's network: it may be beyond a router."""
    assert "no link of this node that is up leads to 192.0.2.2" in said("Idle") and "multihop" in said("Idle")
    assert "multihop" not in said("Idle", session=NODE)
    assert "leads" not in said("Idle", session=msgspec.structs.replace(TOR, multihop=2))


def test_one_that_was_up_is_not_waited_for_yet() -> None:
    """It is lost; and if BFD hears nothing either, no port is to blame."""
    assert "any more" in said("Connect", known=True, bfd="") and "firewalls" in said("Connect", known=True)
    words = said("Connect", known=True, bfd="Down")
    assert "BFD does not hear it either" in words and "console and cables" in words and "179" not in words


def test_passwords_by_what_the_kernel_dropped() -> None:
    """Of the side that has one, and of the side that has none; nodes, which never have one, aren't blamed."""
    secret = msgspec.structs.replace(TOR, password="x")
    assert "the password differs, or isn't set on the peer" in said("Connect", session=secret, unsigned=3)
    assert "the peer has a password, and none is set here" in said("Connect", signed=3)
    assert "MD5" not in said("Connect", signed=3, session=NODE) + said("Connect", unsigned=3)
    assert "refused" in said("Active", "Socket: Connection refused", signed=3)


def test_a_session_that_is_up_and_not_as_it_should_be() -> None:
    assert said("Established", bfd="Up", lost=2) == "" == said("Established", session=NODE, bfd="Down")
    assert "it doesn't hear this node: is UDP port 3784" in said("Established", bfd="Init")
    assert "does it speak BFD" in said("Established", bfd="Down")
    coming = said("Established", "Received: Unknown error 6.10", bfd="Up", lost=4)
    assert (
        coming.startswith("it comes and goes, lost 4 times") and "its BFD does not hear this node" in coming
    )


def test_sessions_of_a_range_are_those_who_called() -> None:
    ranged = msgspec.structs.replace(
        TOR, name="p_x_12ab", neighbor="192.0.2.0/24", dynamic=True, passive=True
    )

    def seen(*names: str) -> dict[str, SessionState]:
        return {n: SessionState(name=n, state="Passive", neighbor=f"192.0.2.{n[-1]}") for n in names}

    assert called(ranged, seen("p_x_12ab_z9", "p_x_12abc_1")) == [ranged]
    found = called(ranged, seen("p_x_12ab_1", "p_x_12ab_2"))
    assert [(one.name, one.neighbor) for one in found] == [
        ("p_x_12ab_1", "192.0.2.1"),
        ("p_x_12ab_2", "192.0.2.2"),
    ]
    assert why(ranged, SessionState(name="p_x_12ab", state="Passive"), Clues()) == ""
    assert called(TOR, seen("p_tor_5678_1")) == [TOR]


def test_what_is_remembered_of_sessions() -> None:
    history = History(10.0)
    up, idle = Standing("Established"), Standing("Idle")
    assert history.look({"a": Standing("Connect"), "b": up}, 10.0) == [Turn("b", True, 0.0)]
    assert history.look({"a": Standing("OpenSent"), "b": up}, 12.0) == []
    assert history.look({"a": up, "b": idle}, 14.0) == [
        Turn("a", True, 4.0),
        Turn("b", False, 4.0),
    ]
    assert (history.since("a", 20.0), history.since("never", 20.0)) == (14.0, 20.0)
    history.look({"b": up}, 15.0)
    history.look({"b": idle}, 16.0)
    assert (history.flaps("b"), history.lost_lately("b", 17.0), history.flaps("a")) == (2, 2, 0)
    assert history.lost_lately("b", 17.0 + LATELY) == 0 and history.flaps("b") == 2


def test_since_is_birds_word_and_what_was_up_before_is_no_news() -> None:
    """An agent that is started again goes on counting; of a session that is down, from when it was lost."""
    history = History(1000.0)
    assert history.look({"a": Standing("Established", 500.0), "b": Standing("Active", 400.0)}, 1001.0) == []
    assert (history.since("a", 1001.0), history.since("b", 1001.0)) == (500.0, 400.0)
    history.look({"a": Standing("Established", 1002.0), "b": Standing("Active", 1002.0)}, 1003.0)
    assert (history.since("a", 1003.0), history.since("b", 1003.0)) == (1002.0, 400.0)
    assert history.look({"a": Standing("Idle", 1007.0), "b": Standing("Established", 1006.0)}, 1007.5) == [
        Turn("a", False, 5.5),
        Turn("b", True, 606.0),
    ]
    history.look({"a": Standing("Active", 1020.0)}, 1021.0)
    assert history.since("a", 1021.0) == 1007.5
    assert history.look({"a": Standing("Established", 9999.0)}, 1022.0) == [Turn("a", True, 14.5)]


def test_the_end_of_bird_itself_is_no_loss_of_a_peer() -> None:
    history = History(0.0)
    up = {"a": Standing("Established", 5.0)}
    history.look(up, 6.0)
    history.interrupted(10.0)
    assert history.look({"a": Standing("Active", 11.0)}, 12.0) == []
    assert (history.flaps("a"), history.lost_lately("a", 12.0), history.since("a", 12.0)) == (0, 0, 10.0)


def test_counters_are_of_interest_for_a_while() -> None:
    drops = Recently()
    drops.take((5, 0), 100.0)
    assert drops.grown == (0, 0), "what was counted before"
    drops.take((7, 1), 102.0)
    drops.take((7, 1), 104.0)
    assert drops.grown == (2, 1)
    drops.take((7, 1), 103.0 + RECENT)
    assert drops.grown == (0, 0)

"""Why a session is down, in words, by what a real FRR, or nobody, answers to a real BIRD."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
from bird_pair import FAR4, NEAR4, Pair, run, wait
from frr import Frr, frr
from rack import router, session, told, tor

from podway.bird.meaning import Clues, why
from podway.kernel import namespaces
from podway.model.bgp import Speaker

pytestmark = pytest.mark.kernel


def said(pair: Pair, speaker: Speaker) -> str:
    return why(speaker.sessions[0], session(pair), Clues())


ADVERTISED = ("BGPAdvertisement", "x", {"prefixes": ["10.96.0.0/16", "10.97.0.0/16"]})


@pytest.mark.parametrize(
    ("spec", "more", "words"),
    [
        ({"asNumber": 65002}, "", "it is not of AS 65002, as is declared here"),
        ({}, f"neighbor {NEAR4} remote-as 64513", "it expects another AS than 64512"),
        ({}, f"neighbor {NEAR4} shutdown", "has this session shut down, or does not know 192.0.2.1"),
        ({}, f"no neighbor {NEAR4}", "it hung up"),
    ],
    ids=["its AS", "the node's AS", "shut down", "unknown"],
)
def test_what_the_router_has_against_it(pair: Pair, spec: dict[str, Any], more: str, words: str) -> None:
    speaker = told(tor(**spec))
    with frr(pair) as peer:
        peer.start(router(more))
        pair.start(speaker)
        wait(lambda: words in said(pair, speaker))


def test_more_than_it_takes(pair: Pair) -> None:
    speaker = told(tor(), ADVERTISED)
    with frr(pair) as peer:
        peer.start(router(family=f"neighbor {NEAR4} maximum-prefix 1"))
        pair.start(speaker)
        wait(lambda: "this node told it more prefixes than it takes" in said(pair, speaker))


def _nobody(pair: Pair) -> None:
    """A machine, and no BGP on it."""


def _no_machine(pair: Pair) -> None:
    with namespaces.entered(pair.far):
        run("ip", "address", "del", f"{FAR4}/24", "dev", "up0")


def _no_carrier(pair: Pair) -> None:
    with namespaces.entered(pair.far):
        run("ip", "link", "set", "up0", "down")


def _silence(pair: Pair) -> None:
    with namespaces.entered(pair.far):
        run("nft", "add table inet wall; add chain inet wall in { type filter hook input priority 0; }")
        run("nft", "add rule inet wall in tcp dport 179 drop")


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (_nobody, "nothing listens on TCP port 179 there: is its BGP speaker running?"),
        (_no_machine, f"no way leads to {FAR4}: is it up, and on this segment?"),
        (_no_carrier, f"no link of this node that is up leads to {FAR4}"),
        (_silence, "TCP port 179 is blocked underway; look at its console and cables, and at firewalls"),
    ],
    ids=["no speaker", "no machine", "no carrier", "a firewall"],
)
def test_nobody_answers(pair: Pair, place: Callable[[Pair], None], words: str) -> None:
    speaker = told(tor())
    place(pair)
    pair.start(speaker)
    wait(lambda: words in said(pair, speaker))


def _stopped(peer: Frr, pair: Pair) -> None:
    os.kill(int((peer.directory / "bgpd.pid").read_text()), signal.SIGSTOP)


def _ended(peer: Frr, pair: Pair) -> None:
    os.kill(int((peer.directory / "bgpd.pid").read_text()), signal.SIGKILL)


@pytest.mark.parametrize(
    ("lost", "words"),
    [
        (_stopped, "nothing was heard for 9 s (hold)"),
        (_ended, "nothing listens on TCP port 179 there"),
        (lambda peer, pair: _no_carrier(pair), "this node's link to 192.0.2.2 has no carrier"),
    ],
    ids=["hangs", "ended", "unplugged"],
)
def test_lost_after_it_was_up(pair: Pair, lost: Callable[[Frr, Pair], None], words: str) -> None:
    speaker = told(tor())
    with frr(pair) as peer:
        peer.start(router())
        pair.start(speaker)
        wait(lambda: session(pair).established)
        lost(peer, pair)
        wait(lambda: words in said(pair, speaker))

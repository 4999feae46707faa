"""An operator's own FRR (or MetalLB's) beside Podway's BIRD on one node, both with the port of BGP."""

from __future__ import annotations

import contextlib
import socket
import time

import pytest
from bird_pair import FAR4, NEAR4, Pair, run, wait
from frr import Frr, frr
from rack import OWN, learned, router, session, told, tor

from podway.agent import speaker as keeping
from podway.kernel import namespaces
from podway.model.errors import Conflict

pytestmark = pytest.mark.kernel

SECOND = "192.0.2.50"  # the node's too: the operator's FRR has it for itself
AT_NODE = ("BGPConfiguration", "default", {"mesh": "off", "hold": 9, "keepalive": 3, "listen": "node"})
OPERATORS = f"""
router bgp 64999
 bgp router-id {SECOND}
 no bgp ebgp-requires-policy
 no bgp network import-check
 neighbor {FAR4} remote-as 65001
 neighbor {FAR4} update-source {SECOND}
 address-family ipv4 unicast
  network 10.9.0.0/24
 exit-address-family
"""
ROUTER = router(f"neighbor {SECOND} remote-as 64999")


def operators() -> set[str]:
    """What the operator's FRR has programmed."""
    return {line.split()[0] for line in run("ip", "route", "show", "proto", "bgp").splitlines()}


def start(own: Frr) -> None:
    """The operator's FRR, anew; zebra begins with a sweep of what an earlier one left."""
    for name in ("zebra", "bgpd"):
        (own.directory / f"{name}.vty").unlink(missing_ok=True)
    own.start(OPERATORS, arguments=("-l", SECOND))


def test_both_speak_and_neither_takes_the_others_routes(pair: Pair) -> None:
    """Over looks of both, a crash and start of FRR, and BIRD's end. Of a prefix that both have FRR leaves its
    own route out, for it takes the kernel's to be nearer, and has it again when Podway's goes."""
    run("ip", "address", "add", f"{SECOND}/24", "dev", "up0")
    own_ones, shared = {"203.0.113.0/24", "10.244.1.0/28", "default"}, "10.244.9.0/26"
    with frr(pair) as tor_, frr(pair, near=True) as own:
        tor_.start(ROUTER)
        start(own)
        wait(lambda: operators() == own_ones | {shared})
        pair.start(told(AT_NODE, tor()))
        wait(lambda: session(pair).established and learned() == {shared})
        heard = wait(lambda: tor_.ask(f"show bgp ipv4 unicast neighbors {NEAR4} routes").get("routes"))
        assert set(heard) == {OWN}  # nothing of the operator's, though BIRD sees it in the kernel
        time.sleep(3)  # BIRD looks at the kernel's routes every other second
        assert operators() >= own_ones and learned() == {shared}
        pair.end_daemons(near=True)
        start(own)
        wait(lambda: operators() >= own_ones)
        assert session(pair).established and learned() == {shared}
        pair.do(pair.a.end())
        wait(lambda: operators() == own_ones | {shared})
        assert not learned()


def test_from_every_address_to_the_nodes_and_back(pair: Pair) -> None:
    """The place is changed while BIRD runs; then another may listen at the rest."""
    everywhere = ("BGPConfiguration", "default", AT_NODE[2] | {"listen": "all"})
    run("ip", "address", "add", f"{SECOND}/24", "dev", "up0")
    with frr(pair) as peer:
        peer.start(router())
        pair.start(told(everywhere, tor(passive=True)))
        wait(lambda: session(pair).established)
        for place, free in ((AT_NODE, True), (everywhere, False)):
            pair.do(pair.a.tell(pair.text(told(place, tor(passive=True)), pair.a)))
            wait(lambda: session(pair).established)
            with contextlib.closing(socket.socket()) as other:
                other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                wait(lambda free=free, other=other: bound(other) == free)


def bound(other: socket.socket) -> bool:
    """Whether a socket can listen at the second address."""
    try:
        other.bind((SECOND, 179))
        other.listen()
    except OSError:
        return False
    return True


def test_who_has_the_port_is_named_at_the_addresses_that_count(pair: Pair) -> None:
    speaker = told(AT_NODE, tor())
    with namespaces.entered(pair.near), contextlib.closing(socket.socket()) as other:
        run("ip", "address", "add", f"{SECOND}/24", "dev", "up0")
        other.bind((SECOND, 179))
        other.listen()
        keeping.require_port(speaker)
        with pytest.raises(Conflict, match=rf"179 is taken by .* listens on {SECOND}:179.*spec.listen"):
            keeping.require_port(told(tor()))
    with namespaces.entered(pair.near), contextlib.closing(socket.socket()) as other:
        other.bind((NEAR4, 179))
        other.listen()
        with pytest.raises(Conflict, match=f"listens on {NEAR4}:179"):
            keeping.require_port(speaker)

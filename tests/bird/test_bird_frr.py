"""A BGPPeer that is a real FRR, as a top-of-rack router is; and a real ExaBGP that tells lies."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import textwrap
from pathlib import Path
from typing import Any

import pytest
from bird_pair import FAR4, FAR6, NEAR4, NEAR6, Pair, run, wait
from frr import frr
from rack import OWN, POOL, exabgp, learned, router, session, told, tor

from podway.kernel import namespaces

pytestmark = pytest.mark.kernel

PING = ("ping", "-q", "-c", "1", "-W", "1", "-I", "10.244.1.1", "10.244.9.1")


def test_a_top_of_rack_router(pair: Pair) -> None:
    """It learns the node's block; of what it tells, only what is in a pool and not the node's own passes."""
    with frr(pair) as peer:
        peer.start(router())
        pair.start(told(tor()))
        wait(lambda: session(pair).established)
        wait(lambda: OWN in peer.prefixes())
        wait(lambda: learned() == {"10.244.9.0/26"})
        wait(
            lambda: session(pair).channels["ipv4"].filtered == 3
        )  # a default route, the node's own, nobody's


@pytest.mark.parametrize(
    ("spec", "more"),
    [
        ({"password": "p;w{1}"}, f"neighbor {NEAR4} password p;w{{1}}"),
        ({"ttlSecurity": True}, f"neighbor {NEAR4} ttl-security hops 1"),
        ({"multihop": 3}, f"neighbor {NEAR4} ebgp-multihop 3"),
        ({"localAs": 4200000007}, f"neighbor {NEAR4} remote-as 4200000007"),
        ({"passive": True}, ""),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_options_that_both_sides_have(pair: Pair, spec: dict[str, Any], more: str) -> None:
    with frr(pair) as peer:
        peer.start(router(more))
        pair.start(told(tor(**spec)))
        wait(lambda: session(pair).established)


@pytest.mark.parametrize(
    ("spec", "more", "words"),
    [
        ({"password": "wrong"}, f"neighbor {NEAR4} password right", ""),
        ({"asNumber": 65002}, "", "Bad peer AS"),
        ({}, f"neighbor {NEAR4} shutdown", ""),
    ],
    ids=["password", "as", "shutdown"],
)
def test_what_differs_keeps_the_session_down(pair: Pair, spec: dict[str, Any], more: str, words: str) -> None:
    with frr(pair) as peer:
        peer.start(router(more))
        pair.start(told(tor(**spec)))
        wait(lambda: words in session(pair).last_error and session(pair).state != "Idle")
        assert not session(pair).established


def test_filters_and_communities(pair: Pair) -> None:
    rules = {
        "imports": [{"action": "accept", "prefixes": [{"cidr": "203.0.113.0/24"}], "setLocalPreference": 50}],
        "exports": [
            {
                "action": "accept",
                "prefixes": [{"cidr": POOL, "min": 26, "max": 26}],
                "prepend": 2,
                "addCommunities": ["64512:7", "64512:1:2"],
            }
        ],
    }
    with frr(pair) as peer:
        peer.start(router())
        pair.start(told(tor(filters=["edge"]), ("BGPFilter", "edge", rules)))
        wait(lambda: OWN in peer.prefixes())
        route = peer.ask(f"show bgp ipv4 unicast {OWN}")["paths"][0]
        assert route["aspath"]["string"] == "64512 64512 64512"
        assert route["community"]["string"] == "64512:7"
        assert route["largeCommunity"]["string"] == "64512:1:2"
        wait(lambda: learned() == {"10.244.9.0/26", "203.0.113.0/24"})
        routes = {one.prefix: one for one in pair.do(pair.a.client.routes())}
        assert routes["203.0.113.0/24"].local_pref == "50"


def test_ipv4_by_an_ipv6_next_hop(pair: Pair) -> None:
    """RFC 8950: over one IPv6 session the pods' IPv4 travels too, and the kernel forwards by it."""
    over_six = f"""
    router bgp 65001
     bgp router-id {FAR4}
     no bgp ebgp-requires-policy
     no bgp network import-check
     neighbor {NEAR6} remote-as 64512
     neighbor {NEAR6} capability extended-nexthop
     address-family ipv4 unicast
      network 10.244.9.0/26
      neighbor {NEAR6} activate
     exit-address-family
    """
    for fd, address in ((pair.near, "10.244.1.1/32"), (pair.far, "10.244.9.1/32")):
        with namespaces.entered(fd):
            run("ip", "address", "add", address, "dev", "lo")
            run("ip", "-4", "address", "flush", "dev", "up0")
    with frr(pair) as peer:
        peer.start(textwrap.dedent(over_six))
        pair.start(told(tor(peerAddress=FAR6, extendedNextHop=True)))
        wait(lambda: OWN in peer.prefixes())
        wait(lambda: learned() == {"10.244.9.0/26"})
        assert f"via inet6 {FAR6}" in run("ip", "route", "show", "10.244.9.0/26")
        wait(lambda: subprocess.run(PING, check=False).returncode == 0)


def test_a_dead_router_is_noticed_by_bfd(pair: Pair) -> None:
    """With BFD its routes go in a fraction of the hold time, though TCP says nothing."""
    configuration = (
        "BGPConfiguration",
        "default",
        {"mesh": "off", "failover": "fast", "hold": 240, "keepalive": 80},
    )
    with frr(pair) as peer:
        peer.start(router(f"neighbor {NEAR4} bfd"), "bfdd")
        pair.start(told(configuration, tor(bfd=True)))
        wait(lambda: session(pair).established and learned())
        wait(lambda: [one for one in pair.do(pair.a.client.bfd()) if one.state == "Up"])
        for name in ("bgpd", "bfdd", "zebra"):
            os.kill(int((peer.directory / f"{name}.pid").read_text()), signal.SIGSTOP)
        wait(lambda: not learned(), 20.0)


EXABGP = """
neighbor {near} {{
    router-id {far};
    local-address {far};
    local-as 65001;
    peer-as 64512;
    family {{ ipv4 unicast; }}
    static {{
        route 0.0.0.0/0 next-hop {far};
        route {own} next-hop {far};
        route 10.244.1.1/32 next-hop {far};
        route 10.244.9.0/26 next-hop {far};
        route 192.0.2.0/24 next-hop {far};
        route 127.0.0.0/8 next-hop {far};
        {many}
    }}
}}
"""


def _liar(pair: Pair, many: int = 0, more: str = "") -> None:
    lines = more + "\n".join(
        f"route 10.{i >> 16 & 255}.{i >> 8 & 255}.{i & 255}/32 next-hop {FAR4};" for i in range(many)
    )
    exabgp(pair, EXABGP.format(near=NEAR4, far=FAR4, own=OWN, many=lines))


def test_a_liar_changes_nothing(pair: Pair) -> None:
    """A default route, this node's block and a part of it, the underlay, loopback: filtered and counted."""
    _liar(pair)
    pair.start(told(tor()))
    wait(lambda: session(pair).established and learned() == {"10.244.9.0/26"})
    assert "default" not in run("ip", "route")
    with namespaces.entered(pair.far):
        assert run("ip", "route")  # the far side is there, and alive


def test_too_many_prefixes_end_the_session_and_not_the_node(pair: Pair) -> None:
    """Beyond maxPrefixes the session is closed, and tried again later; what is the node's own stays."""
    _liar(pair, 3000)
    pair.start(told(tor(maxPrefixes=1000)))
    wait(
        lambda: "limit" in session(pair).last_error.lower() or "prefixes" in session(pair).last_error.lower()
    )
    wait(lambda: not learned())
    assert pair.a.pid() is not None


def _resident(pair: Pair) -> int:
    """MiB that the node's BIRD holds."""
    status = Path(f"/proc/{pair.a.pid()}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) // 1024


@pytest.mark.soak  # ExaBGP takes a minute to read them
def test_a_hundred_thousand_prefixes_of_others_are_filtered_and_counted(pair: Pair) -> None:
    """None reaches the kernel, what is right among them does; BIRD keeps them to count, in little memory."""
    _liar(pair, 100_000)
    pair.start(told(tor(maxPrefixes=200_000)))
    wait(lambda: session(pair).established and session(pair).channels["ipv4"].filtered >= 100_000, 120.0)
    wait(lambda: learned() == {"10.244.9.0/26"})
    assert _resident(pair) < 100


@pytest.mark.soak
def test_a_hundred_thousand_prefixes_end_at_the_limit(pair: Pair) -> None:
    """Told as much without a limit of its own, the session ends at 10 000."""
    _liar(pair, 100_000)
    pair.start(told(tor()))
    wait(lambda: re.search("limit|prefixes", session(pair).last_error, re.IGNORECASE), 120.0)
    assert not learned() and _resident(pair) < 100


@pytest.mark.parametrize(
    ("attribute", "stays"),
    [("0x07 0xc0 0x01", True), ("0x63 0x40 0x01", False)],
    ids=["aggregator of one byte", "an unknown one that everybody must know"],
)
def test_malformed_attributes(pair: Pair, attribute: str, stays: bool) -> None:
    """RFC 7606: what can be ignored is, else the route is taken for withdrawn or the session ends."""
    _liar(pair, more=f"route 10.244.77.0/26 next-hop {FAR4} attribute [ {attribute} ];\n")
    pair.start(told(tor()))
    if stays:
        wait(lambda: learned() == {"10.244.9.0/26", "10.244.77.0/26"})
    else:
        wait(lambda: session(pair).last_error or learned() == {"10.244.9.0/26"})
        assert "10.244.77.0/26" not in learned()
    assert pair.a.pid() is not None

"""Each field of a BGPPeer, and filters and advertisements, as a real FRR sees them on the wire."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import speakers
from bird_pair import FAR4, NEAR4, Pair, run, wait
from frr import Frr, frr
from rack import OWN, POOL, exabgp, learned, router, session, told, tor

from podway.agent.sessions import called
from podway.bird.meaning import Clues, why
from podway.bird.replies import SessionState
from podway.kernel import counters, namespaces
from podway.model.bgp import Speaker

pytestmark = pytest.mark.kernel

SLOW = "timers bgp 60 180"  # whatever FRR would rather have


def neighbor(peer: Frr, address: str = NEAR4) -> dict[str, Any]:
    """What FRR says of node a."""
    found: dict[str, Any] = peer.ask(f"show bgp neighbors {address}").get(address, {})
    return found


def up(pair: Pair, peer: Frr, speaker: Speaker, configuration: str, *arguments: str) -> dict[str, Any]:
    """Both started, their session established."""
    peer.start(configuration, arguments=arguments)
    pair.start(speaker)
    wait(lambda: session(pair).established)
    return wait(lambda: (found := neighbor(peer)).get("bgpState") == "Established" and found)  # type: ignore[no-any-return]


def reason(pair: Pair, speaker: Speaker) -> str:
    """Why its session with the router is down."""
    return why(speaker.sessions[0], session(pair), Clues())


def stays_down(pair: Pair, speaker: Speaker, words: str) -> None:
    """It is tried, it isn't established, and what is said of it has these words."""
    pair.start(speaker)
    wait(lambda: words in reason(pair, speaker))
    assert not session(pair).established


def test_timers(pair: Pair) -> None:
    """The lesser hold time holds for both, and the node sends its keepalives as often as it is told."""
    with frr(pair) as peer:
        seen = up(pair, peer, told(tor(hold=21, keepalive=5)), router().replace("timers bgp 3 9", SLOW))
        assert seen["bgpTimerHoldTimeMsecs"] == 21_000
        assert "/5\n" in pair.do(pair.a.client.ask('show protocols all "p_*"')).split("Keepalive timer:")[1]


def test_an_as_of_four_bytes(pair: Pair) -> None:
    far, own = 4200000001, 4200000002
    lines = router(f"neighbor {NEAR4} remote-as {own}").replace("router bgp 65001", f"router bgp {far}")
    configuration = ("BGPConfiguration", "default", {"mesh": "off", "asNumber": own})
    with frr(pair) as peer:
        up(pair, peer, told(configuration, tor(asNumber=far)), lines)
        wait(lambda: OWN in peer.prefixes())
        assert path(peer) == str(own)
        wait(lambda: [one.as_path for one in pair.do(pair.a.client.routes()) if one.best] == [str(far)])


def path(peer: Frr) -> str:
    """The AS path of node a's block."""
    wait(lambda: OWN in peer.prefixes())
    found: str = peer.ask(f"show bgp ipv4 unicast {OWN}")["paths"][0]["aspath"]["string"]
    return found


def test_local_as_is_all_that_it_is_told(pair: Pair) -> None:
    with frr(pair) as peer:
        up(pair, peer, told(tor(localAs=64999)), router(f"neighbor {NEAR4} remote-as 64999"))
        assert path(peer) == "64999"


LOOPBACK = "198.51.100.9"


def far_loopback(pair: Pair) -> None:
    """The router has an address that is on no segment of the node's."""
    with namespaces.entered(pair.far):
        run("ip", "address", "add", f"{LOOPBACK}/32", "dev", "lo")
    run("ip", "route", "add", LOOPBACK, "via", FAR4)


MULTIHOP = f"neighbor {NEAR4} ebgp-multihop 2\n neighbor {NEAR4} update-source {LOOPBACK}"


def test_a_peer_beyond_the_segment(pair: Pair) -> None:
    """By ``multihop``, its routes by way of the next hop towards it; without, the reason is said."""
    far_loopback(pair)
    with frr(pair) as peer:
        up(pair, peer, told(tor(peerAddress=LOOPBACK, multihop=2)), router(MULTIHOP))
        wait(lambda: learned() == {"10.244.9.0/26"})
        assert f"via {FAR4} dev up0" in run("ip", "route", "show", "10.244.9.0/26")


FAR_BFD = ("BGPConfiguration", "default", {"mesh": "off", "failover": "fast", "hold": 240})
PROFILE = "bfd\n profile far\n  minimum-ttl 1\n"


def test_bfd_over_more_than_one_hop(pair: Pair) -> None:
    """A peer beyond the segment that dies loses its routes long before hold (RFC 5883). BIRD's packets have
    the TTL of all others, which FRR must be told to take."""
    far_loopback(pair)
    with frr(pair) as peer:
        peer.start(router(f"{MULTIHOP}\n neighbor {NEAR4} bfd profile far"), "bfdd", bfd=PROFILE)
        pair.start(told(FAR_BFD, tor(peerAddress=LOOPBACK, multihop=2, bfd=True)))
        wait(lambda: session(pair).established and learned())
        wait(lambda: [one.state for one in pair.do(pair.a.client.bfd())] == ["Up"])
        with namespaces.entered(pair.far):
            run("nft", "add table inet dead; add chain inet dead out { type filter hook output priority 0; }")
            run("nft", "add rule inet dead out drop")
        wait(lambda: not learned(), 30.0)


def test_bfd_that_takes_no_ttl_of_others_is_named(pair: Pair) -> None:
    far_loopback(pair)
    planned = told(FAR_BFD, tor(peerAddress=LOOPBACK, multihop=2, bfd=True))
    with frr(pair) as peer:
        peer.start(router(f"{MULTIHOP}\n neighbor {NEAR4} bfd"), "bfdd")
        pair.start(planned)
        wait(
            lambda: (
                session(pair).established and [one.state for one in pair.do(pair.a.client.bfd())] == ["Init"]
            )
        )
        assert "FRR: minimum-ttl" in why(planned.sessions[0], session(pair), Clues(bfd="Init"))


@pytest.mark.parametrize(("here", "there"), [("same", "same"), ("one", "other")])
def test_a_password_of_whoever_calls_from_a_range(pair: Pair, here: str, there: str) -> None:
    """It holds for the whole range, and who has another isn't heard."""
    planned = told(tor(peerAddress="", peerRange="192.0.2.0/28", password=here))
    with frr(pair) as peer:
        peer.start(router(f"neighbor {NEAR4} password {there}"))
        pair.start(planned)
        if here == there:
            wait(learned)
        else:
            wait(lambda: counters.md5_drops() != (0, 0))
            assert not [one for one in pair.do(pair.a.client.sessions()) if one.established]


def test_without_multihop_it_is_named(pair: Pair) -> None:
    far_loopback(pair)
    with frr(pair) as peer:
        peer.start(router(MULTIHOP))
        stays_down(pair, told(tor(peerAddress=LOOPBACK)), "multihop")


def test_ttl_security_of_one_side_alone(pair: Pair) -> None:
    """A packet that may have passed a router is taken for nothing, and the table says what it may be."""
    with frr(pair) as peer:
        peer.start(router())
        stays_down(pair, told(tor(ttlSecurity=True)), "with TTL security both sides must have it")


def test_a_port_of_its_own(pair: Pair) -> None:
    with frr(pair) as peer:
        up(pair, peer, told(tor(port=1790)), router(f"neighbor {NEAR4} passive"), "-p", "1790")


@pytest.mark.parametrize("wanted", [True, False], ids=["on", "off"])
def test_graceful_restart(pair: Pair, wanted: bool) -> None:
    """The node asks that its routes be kept for restartTime, or not at all."""
    configuration = ("BGPConfiguration", "default", {"mesh": "off", "restartTime": 77})
    with frr(pair) as peer:
        up(pair, peer, told(configuration, tor(gracefulRestart=wanted)), router("bgp graceful-restart"))
        seen = wait(lambda: neighbor(peer).get("gracefulRestartInfo"))
        assert seen["remoteGrMode"] == ("Restart" if wanted else "Helper")
        assert not wanted or seen["timers"]["receivedRestartTimer"] == 77


THIRD, BEYOND = "192.0.2.3", "192.0.2.77"
NODE_B = f"""
neighbor {NEAR4} {{
    router-id {THIRD};
    local-address {THIRD};
    local-as 64512;
    peer-as 64512;
    family {{ ipv4 unicast; }}
    static {{ route 10.244.2.0/26 next-hop {BEYOND}; }}
}}
"""


@pytest.mark.parametrize("wanted", [False, True])
def test_next_hop_self(pair: Pair, wanted: bool) -> None:
    """What another node has told is passed on with that one as next hop, or with this one."""
    passed = {"action": "accept", "prefixes": [{"cidr": POOL, "min": 26, "max": 32}]}
    planned = told(
        tor(asNumber=64512, nextHopSelf=wanted, filters=["all"]), ("BGPFilter", "all", {"exports": [passed]})
    )
    (third,) = speakers.speaker(speakers.NODE | {"neighbor": THIRD, "passive": True}).sessions
    with namespaces.entered(pair.far):
        run("ip", "address", "add", f"{THIRD}/24", "dev", "up0")
    with frr(pair) as peer:
        peer.start(router().replace("router bgp 65001", "router bgp 64512"))
        pair.start(msgspec.structs.replace(planned, sessions=(*planned.sessions, third)))
        exabgp(pair, NODE_B)
        wait(lambda: {OWN, "10.244.2.0/26"} <= peer.prefixes())
        (found,) = peer.ask("show bgp ipv4 unicast 10.244.2.0/26")["paths"]
        assert found["nexthops"][0]["ip"] == (NEAR4 if wanted else BEYOND)


@pytest.mark.parametrize("able", [True, False])
def test_one_that_does_no_graceful_restart_is_named(pair: Pair, able: bool) -> None:
    planned = told(tor())
    lines = router("" if able else "bgp graceful-restart-disable")
    with frr(pair) as peer:
        up(pair, peer, planned, lines)
        assert ("does no graceful restart" in reason(pair, planned)) != able


def test_whoever_calls_from_a_range(pair: Pair) -> None:
    """It is taken in, shown by its own address, and said of it what became of it when it has gone."""
    planned = told(tor(peerAddress="", peerRange="192.0.2.0/28", bfd=True))
    (ranged,) = planned.sessions

    def shown() -> list[tuple[str, SessionState | None, str]]:
        seen: dict[str, SessionState] = {one.name: one for one in pair.do(pair.a.client.sessions())}
        return [
            (one.neighbor, seen.get(one.name), why(one, seen.get(one.name), Clues()))
            for one in called(ranged, seen)
        ]

    pair.start(planned)
    ((whom, state, words),) = wait(shown)
    assert (whom, state.state, words) == ("192.0.2.0/28", "Passive", "")
    with frr(pair) as peer:
        peer.start(router(f"neighbor {NEAR4} bfd"), "bfdd")
        wait(lambda: [one[1].established for one in shown()] == [True])
        assert [(whom, words) for whom, _, words in shown()] == [(FAR4, "")]
        wait(lambda: learned() == {"10.244.9.0/26"})
        with namespaces.entered(pair.far):
            run("ip", "link", "set", "up0", "down")
        wait(lambda: not learned())
        wait(lambda: [one for one in shown() if "link to 192.0.2.2 has no carrier" in one[2]])


ROUTES = f"""
 neighbor {NEAR4} route-map tell out
 address-family ipv4 unicast
  network 10.244.10.0/26
  network 10.244.11.0/26
  network 10.244.12.0/26
 exit-address-family
exit
ip prefix-list ten permit 10.244.10.0/26
ip prefix-list eleven permit 10.244.11.0/26
ip prefix-list twelve permit 10.244.12.0/26
ip prefix-list foreign permit 203.0.113.0/24
route-map tell permit 10
 match ip address prefix-list ten
 set community 65001:666
route-map tell permit 11
 match ip address prefix-list eleven
 set large-community 65001:6:6
route-map tell permit 12
 match ip address prefix-list twelve
 set as-path prepend 666
route-map tell permit 13
 match ip address prefix-list foreign
 set community 65001:7
route-map tell permit 14
"""


@pytest.mark.parametrize(
    ("rule", "missing"),
    [
        ({"communities": ["65001:666"]}, "10.244.10.0/26"),
        ({"communities": ["65001:6:6"]}, "10.244.11.0/26"),
        ({"asPath": 666}, "10.244.12.0/26"),
        ({"prefixes": [{"cidr": "10.244.9.0/24", "min": 25, "max": 26}]}, "10.244.9.0/26"),
    ],
    ids=["community", "large community", "AS path", "prefix"],
)
def test_what_imports_reject_and_accept(pair: Pair, rule: dict[str, Any], missing: str) -> None:
    """By each of a rule's conditions; what is accepted passes though it is in no pool."""
    wanted = {"action": "accept", "communities": ["65001:7"], "setLocalPreference": 50}
    rules = {"imports": [wanted, rule | {"action": "reject"}]}
    with frr(pair) as peer:
        up(pair, peer, told(tor(filters=["edge"]), ("BGPFilter", "edge", rules)), router() + ROUTES)
        all_ = {"203.0.113.0/24", *(f"10.244.{third}.0/26" for third in (9, 10, 11, 12))}
        wait(lambda: learned() == all_ - {missing})
        routes = {one.prefix: one for one in pair.do(pair.a.client.routes())}
        assert routes["203.0.113.0/24"].local_pref == "50"


def test_a_route_that_somebody_deleted_is_back(pair: Pair) -> None:
    """At BIRD's next look at the kernel, every other second: it takes no notice of what tells it at once."""
    with frr(pair) as peer:
        up(pair, peer, told(tor()), router())
        wait(lambda: learned() == {"10.244.9.0/26"})
        run("ip", "route", "del", "10.244.9.0/26", "proto", "bird")
        wait(lambda: learned() == {"10.244.9.0/26"})


def test_a_drain_is_told_past_a_filter(pair: Pair) -> None:
    """The community, which FRR takes as the least preference, and a metric for who doesn't know it."""
    rules = {"exports": [{"action": "accept", "setLocalPreference": 200, "prepend": 1}]}
    planned = told(tor(filters=["edge"]), ("BGPFilter", "edge", rules))
    with frr(pair) as peer:
        up(pair, peer, msgspec.structs.replace(planned, draining=True), router())
        wait(lambda: OWN in peer.prefixes())
        found = peer.ask(f"show bgp ipv4 unicast {OWN}")["paths"][0]
        assert (
            "graceful-shutdown" in found["community"]["string"] or "65535:0" in found["community"]["string"]
        )
        assert (found["locPrf"], found["metric"]) == (0, 4294967295)
        assert found["aspath"]["string"] == "64512 64512"


def advertisement(name: str, *prefixes: str, **more: Any) -> tuple[str, str, dict[str, Any]]:
    return ("BGPAdvertisement", name, {"prefixes": list(prefixes)} | more)


def test_services_and_who_serves_them(pair: Pair) -> None:
    """A prefix by all (Cluster), an address by those that serve it alone (Local), told and taken back without
    an end of the session; a filter rejects."""
    local = {"externalTrafficPolicy": "Local"}
    cluster = advertisement("services", "10.96.0.0/16")
    serving = advertisement("web", "203.0.113.7/32", nodes=["a"], **local)
    elsewhere = advertisement("mail", "203.0.113.8/32", nodes=["b"], **local)
    with frr(pair) as peer:
        # that there is no node b is noted
        up(pair, peer, told(tor(), cluster, serving, elsewhere, notes=True), router())
        own = {"0.0.0.0/0", "10.244.9.0/26", "10.244.1.0/28", "203.0.113.0/24"}
        wait(lambda: peer.prefixes() - own == {OWN, "10.96.0.0/16", "203.0.113.7/32"})
        since = session(pair).since
        moved = advertisement("web", "203.0.113.7/32", nodes=["b"], **local)
        pair.do(pair.a.tell(pair.text(told(tor(), cluster, moved, notes=True), pair.a)))
        wait(lambda: peer.prefixes() - own == {OWN, "10.96.0.0/16"})
        rules = {"exports": [{"action": "reject", "prefixes": [{"cidr": "10.96.0.0/16"}]}]}
        less = told(tor(filters=["f"]), cluster, ("BGPFilter", "f", rules))
        pair.do(pair.a.tell(pair.text(less, pair.a)))
        wait(lambda: peer.prefixes() - own == {OWN})
        assert session(pair).since == since and session(pair).established
        assert "10.96.0.0/16" not in run("ip", "route")  # where a service leads is not BGP's to say

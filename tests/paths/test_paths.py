"""Direct is what is proved: on real segments, with real agents, a router that lies, and cables that move."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from segments import Node, Segments, gateway, reaches

from pings import Pings
from podway.kernel import namespaces
from podway.kernel.monitor import Monitor

pytestmark = pytest.mark.kernel
Make = Callable[..., Segments]
DIRECT = {"directWithinSubnet": True}


def _two(made: Segments) -> tuple[Node, Node]:
    """Two nodes with running agents on one segment."""
    a, b = made.node("a"), made.node("b")
    return a, b


def _started(*nodes: Node) -> None:
    for node in nodes:
        node.start()


@pytest.mark.parametrize("attach", ["bridge", "routed"])
def test_host_gw_on_one_segment_is_proved(make_segments: Make, attach: str) -> None:
    """Both nodes prove each other, by ARP and by neighbour discovery, and packets go."""
    made = make_segments(transport="host-gw", attach=attach)
    a, b = _two(made)
    _started(a, b)
    for family in (4, 6):
        for node, peer in ((a, b), (b, a)):
            one = node.until(peer.name, "direct", "proved", family)
            assert one.dev == "up0" and one.mtu == 1500 and one.last_probe and one.probe_ms
            node.goes(peer, "up0", family)
        assert reaches(a, b, family)


@pytest.mark.parametrize("spec", [{"transport": "host-gw"}, {"transport": "vxlan", "vxlan": DIRECT}])
def test_a_restart_changes_no_route(make_segments: Make, spec: dict[str, object]) -> None:
    """Even while the peer's agent is down and nothing can be proved, what stood stays."""
    made = make_segments(**spec)
    a, b = _two(made)
    _started(a, b)
    for family in (4, 6):
        a.until("b", "direct", "proved", family)
        a.goes(b, "up0", family)
    b.stop(signal.SIGKILL)
    with namespaces.entered(a.fd):
        monitor = Monitor()
    try:
        a.stop(signal.SIGKILL)
        a.start()
        for family in (4, 6):
            one = a.until("b", "direct", "nor does its agent", family)
            assert "stood before" in one.reason
        changed = [event for event in monitor.read() if event.kind == "route"]
        assert [event for event in changed if getattr(event.object, "protocol", 0) == 112] == []
    finally:
        monitor.close()
    b.start()
    a.until("b", "direct", "proved")


def test_a_router_that_answers_for_a_peer_is_not_believed(make_segments: Make) -> None:
    """host-gw: behind proxy ARP and proxied neighbour discovery the peer gets no route, and is named."""
    made = make_segments(transport="host-gw")
    a, b = _two(made)
    made.route_between()
    made.move(b, "far")
    _started(a, b)
    for family in (4, 6):
        one = a.until("b", "none", "a router answers in its place", family)
        assert one.address in a.run("ip", f"-{family}", "neighbour")  # the kernel itself believes the router
        assert gateway(b, family).removesuffix("1") not in a.run("ip", f"-{family}", "route")
    shown = a.podway("status")
    assert "peer b block 10.244.2.0/24: " in shown and "use a transport that crosses routers" in shown


def test_moved_behind_a_router_and_back(make_segments: Make) -> None:
    """directWithinSubnet: direct when proved, tunnel behind the router, direct again, both families."""
    made = make_segments(transport="vxlan", vxlan=DIRECT)
    a, b = _two(made)
    made.route_between()
    _started(a, b)
    for family in (4, 6):
        one = a.until("b", "direct", "proved", family)
        assert one.mtu == 1500
        a.goes(b, "up0", family)
    made.move(b, "far")
    for family in (4, 6):
        one = a.until("b", "tunnel", "", family)
        assert one.mtu == 1450
        a.goes(b, "pwv", family)
        b.until("a", "tunnel", "", family)
        b.goes(a, "pwv", family)
        assert reaches(a, b, family)
    a.until("b", "tunnel", "a router answers in its place")
    made.move(b, "lan")
    for family in (4, 6):
        a.until("b", "direct", "proved", family)
        a.goes(b, "up0", family)


def test_get_peers_says_which_path_and_why(make_segments: Make) -> None:
    """The table, the wide one and JSON: peer, path, reason, since when, MTU on that path, last probe."""
    made = make_segments(transport="vxlan", vxlan=DIRECT)
    a, b = _two(made)
    made.route_between()
    c = made.node("c")
    made.move(c, "far")
    _started(a, b, c)
    a.until("b", "direct", "proved")
    a.until("b", "direct", "proved", 6)
    a.until("c", "tunnel", "a router answers in its place")
    # until liveness has looked at a peer too, that is what is told of it
    a.shown("proxy ARP", "get", "peers")
    table = a.shown("  direct  proved: ", "get", "peers")
    lines = {line.split()[0]: line for line in table.splitlines()}
    assert "  direct  proved: " in lines["b"] and "  tunnel  " in lines["c"] and "proxy ARP" in lines["c"]
    (head, *wide) = a.podway("get", "peers", "-o", "wide").splitlines()
    assert {"PATH", "MTU", "CHOSEN"} < set(head.split()) and "LAST PROOF" in head and "WHY THIS PATH" in head
    assert any(line.startswith("b ") and "pods direct" in line and "proved: " in line for line in wide)
    assert any(line.startswith("c ") and "pods tunnel, UDP 8472" in line for line in wide)
    (one,) = json.loads(a.podway("get", "peers", "b", "-o", "json"))
    four = next(choice for choice in one["choices"] if choice["family"] == 4)
    assert (four["path"], four["mtu"], four["dev"], four["blocks"]) == (
        "direct",
        1500,
        "up0",
        ["10.244.2.0/24"],
    )
    assert (
        '"message":"path"' in a.log() and json.loads(a.podway("status", "-o", "json"))["paths"]["tunnel"] == 2
    )
    assert 0 < four["since"] <= time.time() and 0 < four["last_probe"] <= time.time() and four["probe_ms"] > 0


@contextmanager
def _nothing_lost(node: Node, peer: Node) -> Iterator[None]:
    """Of a hundred packets a second between two blocks, until the end of the body."""
    running = Pings("-I", gateway(node), gateway(peer), enter=node.enter(), fds=[node.fd])
    try:
        yield
    finally:
        lost = running.lost()
    assert lost == []


def test_each_direction_decides_for_itself(make_segments: Make) -> None:
    """One side direct, the other through the tunnel, with reverse path filters strict: nothing is lost."""
    made = make_segments(transport="vxlan", vxlan=DIRECT)
    a, b = _two(made)
    for node in (a, b):
        made.set(node, "ipv4/conf/up0/rp_filter=1")
        made.set(node, "ipv4/conf/all/rp_filter=1")
    _started(a, b)
    a.until("b", "direct", "proved")
    b.until("a", "direct", "proved")
    with _nothing_lost(a, b):
        # b hears no answer about a's address any more: it goes back to the tunnel, a doesn't
        b.run("nft", "add table netdev deaf")
        b.run("nft", 'add chain netdev deaf in { type filter hook ingress device "up0" priority 0; }')
        b.run("nft", "add rule netdev deaf in ether type arp arp operation reply drop")
        (mac,) = b.peers()["a", 4].macs
        b.run("ip", "neighbour", "replace", "192.0.2.1", "lladdr", mac, "dev", "up0", "nud", "permanent")
        b.until("a", "tunnel", "nobody on up0 answers for 192.0.2.1")
        b.goes(a, "pwv")
        a.goes(b, "up0")
        assert a.peers()["b", 4].path == "direct"
        assert reaches(a, b, count=20)
        b.run("nft", "delete table netdev deaf")
        b.until("a", "direct", "proved")


def test_going_direct_and_back_loses_nothing(make_segments: Make) -> None:
    """directWithinSubnet switched on and off, the transport changed to host-gw and back, under traffic."""
    made = make_segments(transport="vxlan")
    a, b = _two(made)
    for node in (a, b):
        made.set(node, "ipv4/conf/up0/rp_filter=1")
    _started(a, b)
    for node, peer in ((a, "b"), (b, "a")):
        node.until(peer, "tunnel")
        node.goes({"a": a, "b": b}[peer], "pwv")
    assert reaches(a, b)
    with _nothing_lost(a, b):
        for change, dev in (
            ({"transport": "vxlan", "vxlan": DIRECT}, "up0"),
            ({"transport": "vxlan", "vxlan": {}}, "pwv"),
            ({"transport": "host-gw"}, "up0"),
            ({"transport": "vxlan", "vxlan": DIRECT}, "up0"),
            ({"transport": "host-gw"}, "up0"),
            ({"transport": "vxlan"}, "pwv"),
        ):
            made.change(lambda spec, new=change: spec.update({"vxlan": {}} | new))  # type: ignore[misc]
            a.goes(b, dev)
            b.goes(a, dev)
            assert reaches(a, b, count=5)

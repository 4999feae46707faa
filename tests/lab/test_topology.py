"""A topology numbers every machine and routes between all segments; the file's errors say the line."""

from __future__ import annotations

from podway.lab import topology
from podway.lab.topology import Hop, Segment, Wish, build


def test_default_is_one_lan_a_router_and_a_host_beyond() -> None:
    lab = topology.default(nodes=2, pods=1)
    first, second = lab.of("node")
    assert first.ports[0].addresses == ("192.0.2.1/24", "fd00:192:0:2::1/64")
    assert second.ports[0].addresses == ("192.0.2.2/24", "fd00:192:0:2::2/64")
    assert second.pods == ("node2-1",) and lab.home("node2-1") == "node2"
    (router,) = lab.of("router")
    assert [port.addresses[0] for port in router.ports] == ["192.0.2.254/24", "198.51.100.254/24"]
    assert Hop(dst="0.0.0.0/0", via="192.0.2.254") in first.routes
    assert Hop(dst="::/0", via="fd00:192:0:2::fffe") in first.routes
    assert lab.network == "pods"


def test_the_host_beyond_knows_no_default_route() -> None:
    (host,) = topology.default().of("host")
    assert {hop.dst for hop in host.routes} == set(topology.LAN)


def test_routers_in_a_row_know_every_segment() -> None:
    segments = tuple(Segment(name=name, cidrs=(f"10.{n}.0.0/24",)) for n, name in enumerate("abc"))
    wishes = (
        Wish(name="n", role="node", segments=("a",)),
        Wish(name="r1", role="router", segments=("a", "b")),
        Wish(name="r2", role="router", segments=("b", "c")),
    )
    lab = build(segments, wishes, ())
    node, first, second = lab.machines
    assert Hop(dst="10.2.0.0/24", via="10.0.0.254") in node.routes
    assert first.routes == (Hop(dst="10.2.0.0/24", via="10.1.0.253"),)
    assert second.routes == (Hop(dst="10.0.0.0/24", via="10.1.0.254"),)


def test_the_way_between_machines_names_segments_and_routers() -> None:
    lab = topology.default()
    assert topology.segments_between(lab, "node1", "node2") == ("lan",)
    assert topology.segments_between(lab, "node1", "internet") == ("lan", "router", "wan")

"""A topology numbers every machine and routes between all segments; the file's errors say the line."""

from __future__ import annotations

from typing import Any

import pytest

from podway.lab import etcd, topology, topology_file
from podway.lab.topology import Hop, Segment, Wish, build
from podway.model.documents import InvalidDocument


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
    assert lab.networks == ("pods",) and lab.network_of("node1-1") == "pods"


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


FILE: dict[str, Any] = {
    "segments": {"lan": {"cidrs": ["192.0.2.0/24"]}, "wan": {"cidrs": ["198.51.100.0/24"], "mtu": 1400}},
    "routers": {"r": {"segments": ["lan", "wan"]}},
    "hosts": {"out": {"segment": "wan"}},
    "nodes": {"a": {"segment": "lan", "mtu": 1400, "pods": ["web", "db"]}, "b": {"segment": "lan"}},
}


def test_a_file_gives_a_topology() -> None:
    lab = topology_file.decode(FILE)
    assert [machine.name for machine in lab.machines] == ["a", "b", "r", "out"]
    assert lab.machines[0].pods == ("web", "db") and lab.machines[1].pods == ("b-1", "b-2")
    assert lab.machines[0].ports[0].mtu == 1400 and lab.machines[3].ports[0].mtu == 1400
    assert lab.documents[0]["spec"]["preset"] == "flannel-host-gw"


def test_a_file_says_weather_and_networks() -> None:
    """Delay and loss of links and segments; pods of several networks side by side."""
    documents = [topology.network_document("flannel-vxlan"), topology.network_document("docker")]
    documents[1]["metadata"] = {"name": "other"}
    node = {"segment": "lan", "loss": "0.5%", "pods": ["web", {"name": "db", "network": "other"}]}
    segments = FILE["segments"] | {"wan": {"cidrs": ["198.51.100.0/24"], "delay": "20ms"}}
    lab = topology_file.decode(FILE | {"nodes": {"a": node}, "segments": segments, "documents": documents})
    assert lab.machines[0].ports[0].weather == topology.Weather(loss=0.5)
    assert lab.segments[1].weather == topology.Weather(delay=20)
    assert (lab.network_of("web"), lab.network_of("db")) == ("pods", "other")


def test_a_file_may_put_the_store_on_a_host() -> None:
    lab = topology_file.decode(FILE | {"store": {"etcd": "out"}})
    assert etcd.url(lab) == "etcd:http://198.51.100.1:2379/lab"
    six = {"lan": {"cidrs": ["fd00::/64"]}, "wan": {"cidrs": ["fd01::/64"]}}
    lab = topology_file.decode(FILE | {"store": {"etcd": "out"}, "segments": six})
    assert etcd.url(lab) == "etcd:http://[fd01::1]:2379/lab"


def test_a_large_mesh_by_bgp_shows_signs_of_life_more_rarely() -> None:
    large = topology.default(nodes=topology.CROWD + 1, pods=1, preset="calico-bgp")
    (declared,) = (one for one in large.documents if one["kind"] == "BGPConfiguration")
    assert declared["spec"] == {"hold": 90, "keepalive": 30}
    for nodes, preset in ((topology.CROWD, "calico-bgp"), (100, "flannel-vxlan")):
        (only,) = topology.default(nodes=nodes, pods=1, preset=preset).documents
        assert only["kind"] == "Network"


@pytest.mark.parametrize(
    ("change", "path", "words"),
    [
        ({"store": {"etcd": "owt"}}, "store.etcd", "did you mean out"),
        ({"store": "etcd"}, "store", "{etcd: HOST}"),
        ({"nodes": {"a": {"segment": "lan", "delay": "1 s"}}}, "nodes.a", "20ms"),
        ({"nodes": {"a": {"segment": "lan", "loss": "120%"}}}, "nodes.a", "at most"),
        (
            {"nodes": {"a": {"segment": "lan", "pods": [{"name": "x", "network": "y"}]}}},
            "nodes.a.pods",
            "pods",
        ),
        ({"nodes": {"a": {"segment": "lan", "pods": [{"name": "x"}]}}}, "nodes.a.pods[0]", "network"),
        ({"nodez": {}}, "nodez", "did you mean nodes"),
        ({"nodes": {"a": {"segment": "lam"}}}, "nodes.a.segment", "did you mean lan"),
        ({"nodes": {"a": {"segment": "lan", "mtu": 9000}}}, "nodes.a.mtu", "more than its segment"),
        ({"nodes": {"a": {"segment": "lan", "mut": 1}}}, "nodes.a.mut", "did you mean mtu"),
        ({"nodes": {"A!": {"segment": "lan"}}}, "nodes.A!", "no legal name"),
        ({"nodes": {"r": {"segment": "lan"}}}, "nodes.r", "twice"),
        ({"nodes": {"a": {"segment": "lan", "pods": ["a"]}}}, "nodes.a.pods", "twice"),
        ({"nodes": {"a": {"segment": "lan", "pods": "two"}}}, "nodes.a.pods", "Expected"),
        ({"nodes": {}}, "nodes", "there is none"),
        ({"preset": "flannel-hostgw"}, "preset", "did you mean flannel-host-gw"),
        ({"documents": [{"kind": "Network"}]}, "documents[0].apiVersion", "missing"),
        ({"segments": {"lan": {"cidrs": ["192.0.2.1/24"]}}}, "segments.lan.cidrs[0]", "host bits"),
        ({"segments": {"lan": {"cidrs": []}}}, "segments.lan.cidrs", "there is none"),
        (
            {"segments": {"lan": {"cidrs": ["192.0.2.0/30"]}, "wan": FILE["segments"]["wan"]}},
            "segments",
            "addresses for",
        ),
    ],
)
def test_a_wrong_file_says_where_and_what(change: dict[str, Any], path: str, words: str) -> None:
    with pytest.raises(InvalidDocument) as caught:
        topology_file.decode(FILE | change)
    found = [problem for problem in caught.value.problems if problem.path == path]
    assert found, caught.value.problems
    assert words in f"{found[0].what} {found[0].fix}"

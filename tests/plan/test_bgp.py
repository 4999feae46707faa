"""What a node's BIRD is told, from nodes, blocks and what is declared of BGP."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from podway.model.bgp import Speaker
from podway.model.bgp_specs import (
    BGPAdvertisementSpec,
    BGPConfigurationSpec,
    BGPFilterSpec,
    BGPPeerSpec,
    BGPTopologySpec,
    PrefixSpec,
    ReflectorsSpec,
    RuleSpec,
    Shape,
)
from podway.model.resources import Bgp, Block, BlockSpec, Node, NodeFacts, NodeSpec, Uplink
from podway.plan.bgp import Cluster, Told, shape, speaker

FACTS = NodeFacts(name="b", uplinks=(Uplink(name="up0", mtu=1500, addresses=("192.0.2.2/24",)),))


def _node(name: str, number: int, six: bool = False, drain: bool = False, **labels: str) -> Node:
    addresses = (f"192.0.2.{number}/24", *([f"2001:db8::{number}/64"] if six else []))
    return Node(name=name, spec=NodeSpec(addresses=addresses, labels=labels, drain=drain))


NODES = {"a": _node("a", 1), "b": _node("b", 2), "c": _node("c", 3)}
BLOCKS = (
    Block(cidr="10.244.2.0/26", spec=BlockSpec(network="pods", node="b", attach="routed")),
    Block(cidr="10.244.3.0/26", spec=BlockSpec(network="pods", node="c", attach="routed")),
    Block(cidr="10.99.0.0/24", spec=BlockSpec(network="other", node="b", attach="bridge")),
)


def _told(nodes: dict[str, Node] = NODES, **bgp: object) -> Told:
    networks = {"pods": ("10.244.0.0/16",)}
    return speaker(Cluster(FACTS, nodes, BLOCKS, networks, Bgp(**bgp)))  # type: ignore[arg-type]


def _speaker(nodes: dict[str, Node] = NODES, **bgp: object) -> Speaker:
    told = _told(nodes, **bgp)
    assert told.speaker is not None and not told.notes
    return told.speaker


def test_nothing_without_a_network_that_is_carried_by_bgp() -> None:
    assert speaker(Cluster(FACTS, NODES, BLOCKS, {}, Bgp())) == Told(None)


def test_a_full_mesh_in_which_one_side_calls() -> None:
    found = _speaker()
    assert (found.router_id, found.own, found.pools) == ("192.0.2.2", ("10.244.2.0/26",), ("10.244.0.0/16",))
    a, c = found.sessions
    assert (a.neighbor, a.passive, a.node, a.ipv4, a.ipv6) == ("192.0.2.1", True, True, True, False)
    assert (c.neighbor, c.passive, c.multihop) == ("192.0.2.3", False, 0)
    assert {a.remote_as, a.local_as} == {64512}


def test_a_session_for_each_family_that_both_have() -> None:
    found = _speaker({"a": _node("a", 1, six=True), "b": _node("b", 2, six=True), "c": _node("c", 3)})
    assert sorted((s.description, s.ipv6) for s in found.sessions) == [
        ("node a", False),
        ("node a", True),
        ("node c", False),
    ]


def test_a_node_beyond_a_router_is_far() -> None:
    far = Node(name="c", spec=NodeSpec(addresses=("198.51.100.3/24",)))
    (session,) = [s for s in _speaker(NODES | {"c": far}).sessions if s.description == "node c"]
    assert session.multihop > 1


def test_speed_or_hitless() -> None:
    fast = _speaker(configuration=BGPConfigurationSpec(failover="fast")).sessions[0]
    slow = _speaker(configuration=BGPConfigurationSpec()).sessions[0]
    assert (fast.bfd, fast.graceful, slow.bfd, slow.graceful) == ("on", "aware", "", "on")


MANY = {f"n{i:03}": _node(f"n{i:03}", i, rack="ab"[i % 2]) for i in range(1, 130)}


def _chosen(nodes: dict[str, Node], configuration: BGPConfigurationSpec, **more: Any) -> tuple[str, ...]:
    return shape(nodes, configuration, **more).reflectors


def test_reflectors_above_the_limit_and_in_different_racks() -> None:
    configuration = BGPConfigurationSpec(reflectors=ReflectorsSpec(spread="rack"))
    assert shape(NODES, configuration) == Shape(mesh=True)
    assert shape(MANY, configuration) == Shape(reflectors=("n001", "n002"))
    assert _chosen(MANY, BGPConfigurationSpec()) == ("n001", "n002")
    one_rack = {name: _node(name, 1, rack="a") for name in MANY}
    assert _chosen(one_rack, configuration) == ("n001", "n002")
    drained = MANY | {"n001": _node("n001", 1, drain=True, rack="b")}
    assert _chosen(drained, configuration) == ("n002", "n003")
    gone = {name: node for name, node in MANY.items() if name != "n002"}
    assert _chosen(gone, configuration) == ("n001", "n004")


def test_those_that_stand_stay_while_they_may() -> None:
    auto = BGPConfigurationSpec(reflectors=ReflectorsSpec(spread="rack"))
    standing = Shape(reflectors=("n007", "n010"))
    assert _chosen(MANY, auto, standing=standing) == ("n007", "n010")
    assert _chosen(MANY, auto, standing=standing, gone=frozenset({"n010"})) == ("n002", "n007")
    unfit = frozenset({"n002", "n010"})
    assert _chosen(MANY, auto, standing=standing, gone=frozenset({"n010"}), unfit=unfit) == ("n004", "n007")
    everybody = frozenset(MANY)  # as one sees it who is cut off: nothing better is to be had
    assert _chosen(MANY, auto, standing=standing, gone=everybody, unfit=everybody) == ("n007", "n010")
    few = dict(sorted(MANY.items())[:90])
    assert shape(few, auto) == Shape(mesh=True) and _chosen(few, auto, standing=standing) == ("n007", "n010")
    fewer = dict(sorted(MANY.items())[:80])
    assert shape(fewer, auto, standing=standing) == Shape(mesh=True)


def test_a_client_speaks_with_reflectors_only_and_they_with_all() -> None:
    configuration = BGPConfigurationSpec(reflectors=ReflectorsSpec(selector="rr"))
    nodes = {"a": _node("a", 1, rr="yes"), "b": _node("b", 2), "c": _node("c", 3)}
    client = _speaker(nodes, configuration=configuration)
    assert [s.description for s in client.sessions] == ["node a"] and not client.reflector
    nodes = {"a": _node("a", 1), "b": _node("b", 2, rr="yes"), "c": _node("c", 3)}
    reflector = _speaker(nodes, configuration=configuration)
    assert [s.description for s in reflector.sessions] == ["node a", "node c"] and reflector.reflector


def test_between_two_shapes_the_sessions_of_both_stand() -> None:
    """And those that both have are the very same, so that none of them ends."""
    mesh, reflecting = Shape(mesh=True), Shape(reflectors=("a",))
    before, after = (
        _speaker(topology=BGPTopologySpec(generation=1, old=one, new=one)) for one in (mesh, reflecting)
    )
    told = _told(topology=BGPTopologySpec(generation=2, old=mesh, new=reflecting))
    assert told.speaker is not None and told.handover is not None
    assert told.speaker.sessions == before.sessions and set(after.sessions) < set(before.sessions)
    assert told.handover.generation == 2
    assert told.handover.staying == told.handover.needed == {session.name for session in after.sessions}
    told = _told(topology=BGPTopologySpec(generation=2, old=reflecting, new=mesh, without=("c",)))
    assert told.handover is not None and told.handover.staying - told.handover.needed == {
        session.name for session in before.sessions if session.description == "node c"
    }


def test_no_mesh() -> None:
    assert not _speaker(configuration=BGPConfigurationSpec(mesh="off")).sessions


TOR = BGPPeerSpec(as_number=65001, peer_address="192.0.2.254")
RANGE = BGPPeerSpec(as_number=65001, peer_range="192.0.2.0/24")
FAR = BGPPeerSpec(as_number=65001, peer_address="198.51.100.9", multihop=2)
FAR_RANGE = BGPPeerSpec(as_number=65001, peer_range="198.51.100.0/24", multihop=2)


def test_a_peer_of_selected_nodes() -> None:
    off = BGPConfigurationSpec(mesh="off", hold=30)
    (session,) = _speaker(configuration=off, peers={"tor": TOR}).sessions
    assert (session.remote_as, session.hold, session.keepalive, session.max_prefixes) == (
        65001,
        30,
        10,
        10_000,
    )
    elsewhere = msgspec.structs.replace(TOR, node_selector="rack=a")
    nodes = NODES | {"a": _node("a", 1, rack="a")}
    assert not _speaker(nodes, configuration=off, peers={"tor": elsewhere}).sessions


def test_what_a_peer_may_tell() -> None:
    """Pieces of the pool no smaller than blocks are, and what nodes have borrowed."""
    borrow = Block(cidr="10.244.2.9/32", spec=BLOCKS[1].spec, borrowed=True)
    cluster = Cluster(FACTS, NODES, (*BLOCKS, borrow), {"pods": ("10.244.0.0/16", "fd00:1::/64")}, Bgp())
    alone, asked = (speaker(cluster._replace(bgp=Bgp(peers=peers))).speaker for peers in ({}, {"tor": TOR}))
    assert alone is not None and not alone.outside
    assert asked is not None and [one.text for one in asked.outside] == [
        "10.244.0.0/16{16,26}",
        "10.244.2.9/32{32,32}",
        "fd00:1::/64{64,128}",
    ]


@pytest.mark.parametrize(
    ("peers", "filters", "words"),
    [
        ({"x": msgspec.structs.replace(TOR, node_selector="rack=z")}, {}, "no node has rack=z"),
        ({"x": msgspec.structs.replace(TOR, peer_address="192.0.2.3")}, {}, "is node c"),
        ({"x": TOR, "y": TOR}, {}, "BGPPeer x is the same peer"),
        ({"x": TOR, "y": RANGE}, {}, "192.0.2.0/24 holds node a, which is spoken with anyway"),
        ({"x": FAR_RANGE, "y": FAR}, {}, "198.51.100.9 and 198.51.100.0/24 of BGPPeer x overlap"),
        (
            {"x": msgspec.structs.replace(TOR, keepalive=30)},
            {},
            "30 s does not fit the nodes' hold of 9: 3 is",
        ),
        ({"x": msgspec.structs.replace(TOR, filters=("none",))}, {}, "there is no BGPFilter none"),
        (
            {"x": msgspec.structs.replace(TOR, peer_address="2001:db8::9")},
            {},
            "no IPv6 address to speak from",
        ),
    ],
)
def test_what_can_not_be_had_is_told(peers: dict, filters: dict, words: str) -> None:  # type: ignore[type-arg]
    told = _told(peers=peers, filters=filters)
    assert any(words in note.reason for note in told.notes)


def test_a_node_is_a_peer_like_others_where_there_is_no_mesh() -> None:
    """Told to all nodes, itself included, which speaks with nobody of that name."""
    peers = {"c": msgspec.structs.replace(TOR, peer_address="192.0.2.3", as_number=64512)}
    off = BGPConfigurationSpec(mesh="off")
    assert [one.neighbor for one in _speaker(configuration=off, peers=peers).sessions] == ["192.0.2.3"]
    own = {"b": msgspec.structs.replace(TOR, peer_address="192.0.2.2", as_number=64512)}
    assert not _speaker(configuration=off, peers=own).sessions


def test_speed_and_hitless() -> None:
    """Nodes are watched and keep each other's routes; a peer that has not both is named with its fix."""
    both = BGPConfigurationSpec(failover="both")
    node = _speaker(configuration=both).sessions[0]
    assert (node.bfd, node.graceful) == ("graceful", "on")
    frr = msgspec.structs.replace(TOR, bfd=True, software="frr")
    (session,) = [s for s in _speaker(configuration=both, peers={"x": frr}).sessions if not s.node]
    assert (session.bfd, session.graceful) == ("on", "on")
    for peer, words in ((TOR, "without BFD"), (msgspec.structs.replace(TOR, bfd=True), "only FRR")):
        (note,) = _told(configuration=both, peers={"x": peer}).notes
        assert "failover: both is not had with it" in note.reason and words in note.reason and note.fix


def test_a_selector_that_names_nobody_takes_no_session_away() -> None:
    """Of reflectors: as if nothing was said, with the reason; of advertisements too it is told."""
    typo = BGPConfigurationSpec(reflectors=ReflectorsSpec(selector="rol=reflector"))
    told = _told(configuration=typo)
    assert told.speaker is not None and len(told.speaker.sessions) == 2
    assert told.notes[0].subject == "BGPConfiguration" and "no node has rol=reflector" in told.notes[0].reason
    assert shape(MANY, typo).reflectors == ("n001", "n002")
    nobody = BGPAdvertisementSpec(prefixes=("10.96.0.0/16",), node_selector="rack=z")
    gone = BGPAdvertisementSpec(
        prefixes=("198.51.100.1/32",), nodes=("b", "x"), external_traffic_policy="Local"
    )
    notes = [(note.subject, note.reason) for note in _told(advertisements={"n": nobody, "g": gone}).notes]
    assert notes == [
        ("BGPAdvertisement g", "there is no node x"),
        ("BGPAdvertisement n", "no node has rack=z"),
    ]


def test_a_mesh_that_is_too_large_is_named() -> None:
    on = BGPConfigurationSpec(mesh="on", mesh_limit=2)
    (note,) = _told(configuration=on).notes
    assert "each of 3 nodes" in note.reason and "mesh: auto" in note.fix
    assert not _told(configuration=msgspec.structs.replace(on, mesh_limit=3)).notes


def test_without_its_filter_nothing_passes() -> None:
    told = _told(peers={"x": msgspec.structs.replace(TOR, filters=("none",))})
    assert told.speaker is not None
    (session,) = [s for s in told.speaker.sessions if not s.node]
    assert [rule.accept for rule in (*session.imports, *session.exports)] == [False, False]


def test_filters_in_order() -> None:
    prefixes = (PrefixSpec(cidr="10.0.0.0/8"), PrefixSpec(cidr="10.0.0.0/8", min=16, max=24))
    first = BGPFilterSpec(imports=(RuleSpec(action="accept", prefixes=prefixes, set_local_preference=7),))
    second = BGPFilterSpec(imports=(RuleSpec(action="reject", as_path=666),))
    peer = msgspec.structs.replace(TOR, filters=("first", "second"))
    (session,) = [
        s
        for s in _speaker(peers={"x": peer}, filters={"second": second, "first": first}).sessions
        if not s.node
    ]
    one, two = session.imports
    assert [p.text for p in one.prefixes] == ["10.0.0.0/8{8,8}", "10.0.0.0/8{16,24}"]
    assert (one.local_pref, two.accept, two.as_path_has) == (7, False, 666)


def test_advertisements() -> None:
    everywhere = BGPAdvertisementSpec(prefixes=("10.96.0.0/16",))
    local = {"external_traffic_policy": "Local"}
    here = BGPAdvertisementSpec(prefixes=("198.51.100.1/32",), nodes=("b",), **local)  # type: ignore[arg-type]
    there = BGPAdvertisementSpec(prefixes=("198.51.100.2/32",), nodes=("a",), **local)  # type: ignore[arg-type]
    found = _speaker(advertisements={"x": everywhere, "y": here, "z": there})
    assert found.advertised == ("10.96.0.0/16", "198.51.100.1/32")


def test_a_node_without_ipv4_has_a_router_id() -> None:
    six = {name: Node(name=name, spec=NodeSpec(addresses=(f"2001:db8::{name}/64",))) for name in "abc"}
    assert _speaker(six).router_id == "0.0.0.11"

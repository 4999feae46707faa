"""transport: wireguard as planned: one device, peers by their keys, prefixes, routes; a handshake first where
another way leads to the peer."""

from __future__ import annotations

from podway.model.objects import Address, Link, Route
from podway.model.resources import (
    Block,
    BlockSpec,
    Network,
    NetworkSpec,
    Node,
    NodeFacts,
    NodeSpec,
    Paths,
    Pool,
    Snapshot,
    Uplink,
    WireguardSpec,
)
from podway.model.wireguard import WgAllowed, WgDevice, WgPeer, WireguardOptions
from podway.plan.planner import Planner
from podway.plan.transport.wireguard import device_name
from podway.plan.way import Way

WAY = Way("wireguard", port=51820, underlay=4)
NAME = device_name(WAY)
UPLINK = Uplink(name="up0", mtu=1500, addresses=("192.0.2.1/24",))
FACTS = NodeFacts(name="a", uplinks=(UPLINK,), addresses=UPLINK.addresses, keys={WAY.text: "key of a"})
BLOCK = "10.1.0.128/26"


def planned(own: Paths | None = None, peers: Paths | None = None, facts: NodeFacts = FACTS) -> Planner:
    spec = NetworkSpec(
        attach="routed",
        transport="wireguard",
        pools=(Pool(cidr="10.1.0.0/16"),),
        wireguard=WireguardSpec(),
    )
    nodes = {
        "a": Node(name="a", spec=NodeSpec(addresses=("192.0.2.1/24",)), paths={"net": own} if own else {}),
        "b": Node(
            name="b", spec=NodeSpec(addresses=("192.0.2.2/24",)), paths={"net": peers} if peers else {}
        ),
    }
    blocks = {
        cidr: Block(cidr=cidr, spec=BlockSpec(network="net", node=node, attach="routed"))
        for cidr, node in {"10.1.0.64/26": "a", BLOCK: "b"}.items()
    }
    planner = Planner(facts)
    networks = {"net": Network(name="net", spec=spec)}
    planner.update_snapshot(Snapshot(networks=networks, nodes=nodes, blocks=blocks, synced=True))
    return planner


def ready(*ways: str) -> Paths:
    return Paths(accepts=ways, sends=ways, keys=((WAY.text, "key of b"),))


def test_the_objects() -> None:
    planner = planned(ready(WAY.text), ready(WAY.text))
    planner.update_met({(NAME, "key of b")})
    found = {one for key, one in planner.desired.items() if NAME in key[1:]}
    found |= {one for one in planner.desired.values() if isinstance(one, Route) and one.dst == BLOCK}
    assert found == {
        Link(
            name=NAME,
            kind="wireguard",
            alias="podway:wireguard:net",
            mtu=1440,
            wireguard=WireguardOptions(port=51820, underlay=4),
        ),
        WgDevice(link=NAME, public_key="key of a", port=51820),
        WgPeer(link=NAME, public_key="key of b", endpoint="192.0.2.2", port=51820, keepalive=25),
        WgAllowed(link=NAME, prefix=BLOCK, peer="key of b"),
        Address(link=NAME, address="10.1.0.64/32", nodad=True),
        Route(dst=BLOCK, dev=NAME, scope="link"),
    }


def test_a_peer_without_a_key_and_a_node_without_one_are_named() -> None:
    planner = planned(ready(WAY.text), Paths(accepts=(WAY.text,)))
    assert "the node has published no key for wireguard:51820:4" in [note.reason for note in planner.notes]
    assert not [one for one in planner.desired.values() if isinstance(one, WgPeer)]
    keyless = planned(facts=NodeFacts(name="a", uplinks=(UPLINK,), addresses=UPLINK.addresses))
    assert "this node has no key for it yet" in [note.reason for note in keyless.notes]
    assert ("link", NAME) not in keyless.desired


def test_where_another_way_leads_a_handshake_comes_first() -> None:
    """The peer is known, so that a handshake can be made, and is sent by the old way until then."""
    vxlan = Way("vxlan", 1, 8472, 4)
    both = ready(vxlan.text, WAY.text)
    planner = planned(both, both)
    assert ("wgpeer", NAME, "key of b") in planner.desired
    assert planner.is_meeting and planner.sends("net") == {vxlan}
    planner.update_met({(NAME, "key of b")})
    assert not planner.is_meeting and planner.sends("net") == {WAY}

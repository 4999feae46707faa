"""Where a peer can be sent less than this node's pods may send, and who has to be told of it."""

from __future__ import annotations

from podway.model.objects import NftChain, NftElement, Route
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
    Transport,
    Uplink,
)
from podway.plan.planner import Planner

BLOCKS = ("10.1.2.0/24", "fd00:1:0:2::/64")


def _planner(transport: Transport, own: int, theirs: int) -> Planner:
    """A node a with an uplink of MTU ``own``, and a peer b whose pods take ``theirs``."""
    uplink = Uplink(name="eth0", mtu=own, addresses=("192.0.2.1/24", "2001:db8::1/64"))
    planner = Planner(NodeFacts(name="a", uplinks=(uplink,)))
    spec = NetworkSpec(pools=(Pool(cidr="10.1.0.0/16"), Pool(cidr="fd00:1::/48")), transport=transport)
    blocks = [Block(cidr=c, spec=BlockSpec(network="pods", node="b", attach="bridge")) for c in BLOCKS]
    way = "vxlan:1:8472:4" if transport == "vxlan" else transport
    paths = Paths(accepts=(way,), sends=(way,), mtu=theirs)
    nodes = {
        name: Node(
            name=name,
            spec=NodeSpec(addresses=(f"192.0.2.{n}/24", f"2001:db8::{n}/64")),
            paths={"pods": paths},
        )
        for n, name in enumerate("ab", 1)
    }
    planner.update_snapshot(
        Snapshot(
            networks={"pods": Network(name="pods", spec=spec)},
            nodes=nodes,
            blocks={block.cidr: block for block in blocks},
            synced=True,
        )
    )
    return planner


def _routes(planner: Planner) -> dict[str, int]:
    return {o.dst: o.mtu for o in planner.desired.values() if isinstance(o, Route) and o.dst in BLOCKS}


def _clamps(planner: Planner) -> list[str]:
    return [o.name for o in planner.desired.values() if isinstance(o, NftChain) and o.hook == "forward"]


def test_equal_nodes_need_nothing() -> None:
    """No route carries an MTU, no packet is looked at."""
    planner = _planner("vxlan", 1500, 1450)
    assert _routes(planner) == dict.fromkeys(BLOCKS, 0) and "narrow4-1450" not in _clamps(planner)


def test_a_peer_of_smaller_mtu_is_sent_less_and_nothing_is_clamped() -> None:
    """Jumbo here, 1500 there: the route says so; TCP learns it from the peer's pods themselves."""
    planner = _planner("vxlan", 9000, 1450)
    assert _routes(planner) == dict.fromkeys(BLOCKS, 1450)
    assert not [name for name in _clamps(planner) if name.startswith("narrow")]


def test_a_peer_of_larger_mtu_is_its_own_business() -> None:
    """The smaller side sends what it has."""
    assert _routes(_planner("host-gw", 1500, 9000)) == dict.fromkeys(BLOCKS, 0)


def test_a_hole_narrows_the_route_and_clamps_both_directions() -> None:
    """Only the family it was found in; IPv6 routes never say less than IPv6 needs."""
    planner = _planner("vxlan", 1500, 1450)
    before = dict(planner.desired)
    planner.update_holes({"b": {"pods/4": 1350}})
    assert _routes(planner) == {BLOCKS[0]: 1350, BLOCKS[1]: 0}
    (chain,) = (o for o in planner.desired.values() if isinstance(o, NftChain) and o.name == "narrow4-1350")
    assert [rule.text.split()[1] for rule in chain.rules] == ["saddr", "daddr"]
    assert all("maxseg size set 1310" in rule.text for rule in chain.rules)
    assert any(isinstance(o, NftElement) and o.value == (BLOCKS[0],) for o in planner.desired.values())
    planner.update_holes({"b": {"pods/6": 1000}})
    assert _routes(planner) == {BLOCKS[0]: 0, BLOCKS[1]: 1280}
    assert "narrow4-1350" not in _clamps(planner) and "narrow6-1000" in _clamps(planner)
    planner.update_holes({})
    assert planner.desired == before


def test_a_hole_no_narrower_than_expected_is_none() -> None:
    """What both ends know already needs no clamp."""
    planner = _planner("vxlan", 9000, 1450)
    planner.update_holes({"b": {"pods/4": 1450}})
    assert not [name for name in _clamps(planner) if name.startswith("narrow")]

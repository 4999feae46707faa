"""What can't be right in the cluster's state is isolated by name, and only what it could be about is kept."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from podway.ipam.blocks import candidates
from podway.model import names
from podway.model.objects import Fdb, Link, Neighbour, NftElement, Route
from podway.model.resources import (
    Block,
    BlockSpec,
    Network,
    NetworkSpec,
    Node,
    NodeFacts,
    NodeSpec,
    Pool,
    Snapshot,
    Unreadable,
    Uplink,
    VxlanSpec,
)
from podway.plan.doubts import Judged, judge, keeps, outermost, span
from podway.plan.planner import Planner

ME = "a"
FACTS = NodeFacts(name=ME, uplinks=(Uplink(name="up0", mtu=1500, addresses=("192.0.2.1/24",)),))


def network(name: str, *pools: str, transport: str = "host-gw", vni: int = 1) -> Network:
    """A network of these pools."""
    spec = NetworkSpec(
        pools=tuple(Pool(cidr=cidr) for cidr in pools),
        transport=transport,  # type: ignore[arg-type]
        vxlan=VxlanSpec(vni=vni),
    )
    return Network(name=name, spec=spec)


def snapshot(
    blocks: dict[str, tuple[str, str]], *networks: Network, unreadable: tuple[Unreadable, ...] = ()
) -> Snapshot:
    """Nodes a, b and c at .1, .2 and .3; ``blocks``: CIDR → (network, node)."""
    nodes = {
        name: Node(name=name, spec=NodeSpec(addresses=(f"192.0.2.{number}/24",)))
        for number, name in enumerate("abc", 1)
    }
    made = {
        cidr: Block(cidr=cidr, spec=BlockSpec(network=of, node=node, attach="bridge"))
        for cidr, (of, node) in blocks.items()
    }
    known = {one.name: one for one in networks or (network("pods", "10.244.0.0/16"),)}
    return Snapshot(networks=known, nodes=nodes, blocks=made, unreadable=unreadable, synced=True)


def words(judged: Judged) -> str:
    """All that is said."""
    return " | ".join(f"{d.note.subject}: {d.note.reason}; {d.note.fix}" for d in judged.doubts)


GOOD = {"10.244.1.0/24": ("pods", "a"), "10.244.2.0/24": ("pods", "b"), "10.244.3.0/24": ("pods", "c")}


def test_a_sound_cluster_raises_no_doubt() -> None:
    sound = snapshot(GOOD)
    judged = judge(sound, FACTS)
    assert judged.snapshot is sound and not judged.doubts and not judged.closed


def test_a_default_route_and_a_block_outside_the_pool_are_refused_and_the_rest_stays() -> None:
    judged = judge(snapshot(GOOD | {"0.0.0.0/0": ("pods", "b"), "10.9.0.0/24": ("pods", "b")}), FACTS)
    assert judged.snapshot.blocks.keys() == GOOD.keys()
    assert "block 0.0.0.0/0 of node b" in words(judged) and "10.9.0.0/24 of node b" in words(judged)
    assert "is in no pool of network pods (10.244.0.0/16)" in words(judged)


def test_a_peer_that_announces_another_nodes_block_is_named_and_the_owner_is_believed() -> None:
    """A claim of another size than the pool's is no node's claim."""
    judged = judge(snapshot(GOOD | {"10.244.3.0/25": ("pods", "b"), "10.244.0.0/16": ("pods", "b")}), FACTS)
    assert judged.snapshot.blocks.keys() == GOOD.keys()
    assert "block 10.244.3.0/25 of node b: it overlaps block 10.244.3.0/24 of node c" in words(judged)
    assert not judged.closed


def test_of_two_odd_blocks_that_overlap_neither_is_believed() -> None:
    judged = judge(snapshot(GOOD | {"10.244.8.0/22": ("pods", "b"), "10.244.9.0/25": ("pods", "a")}), FACTS)
    assert judged.snapshot.blocks.keys() == GOOD.keys()
    assert judged.closed == {"10.244.9.0/25"}


def test_a_block_over_the_underlay_is_refused() -> None:
    net = network("pods", "192.0.0.0/16")
    blocks = {"192.0.2.0/24": ("pods", "b"), "192.0.7.0/24": ("pods", "c")}
    judged = judge(snapshot(blocks, net), FACTS)
    assert [*judged.snapshot.blocks] == ["192.0.7.0/24"]
    assert "which is on this node's link up0" in words(judged)
    assert "192.0.2.0/24" in judged.avoid
    claims = candidates(net, [*blocks, *judged.avoid], 4, "a")
    assert "192.0.2.0/24" not in set(claims)


def test_networks_whose_pools_overlap_keep_what_they_have_and_claim_nothing_there() -> None:
    wide, narrow = network("wide", "10.0.0.0/8"), network("narrow", "10.244.0.0/16", "fd00::/48")
    blocks = {"10.1.0.0/24": ("wide", "b"), "10.244.1.0/24": ("narrow", "b")}
    judged = judge(snapshot(blocks, wide, narrow), FACTS)
    assert judged.snapshot.blocks.keys() == blocks.keys()
    assert "pool 10.244.0.0/16 overlaps pool 10.0.0.0/8 of network wide" in words(judged)
    assert judged.avoid["10.244.0.0/16"] == "networks wide and narrow both have 10.244.0.0/16 in a pool"
    taken = [*blocks, *judged.avoid]
    assert not list(candidates(narrow, taken, 4, "a"))
    assert next(candidates(narrow, taken, 6, "a"))  # what isn't contested goes on
    claim = span(next(candidates(wide, taken, 4, "a")))
    contested = span("10.244.0.0/16")
    assert claim[2] < contested[1] or claim[1] > contested[2]


def test_a_pool_that_is_covered_is_told_at_once() -> None:
    """Passing what is taken costs one step, however many blocks it covers."""
    net = network("pods", "fd00::/16")
    assert not list(candidates(net, ["fd00::/16"], 6, "a"))
    assert next(candidates(net, ["fd00::/17"], 6, "a"))


def test_one_vxlan_for_two_networks_is_named_and_no_peer_is_added_to_either() -> None:
    one, other = (network(n, p, transport="vxlan") for n, p in (("x", "10.1.0.0/16"), ("y", "10.2.0.0/16")))
    blocks = {"10.1.1.0/24": ("x", "a"), "10.1.2.0/24": ("x", "b"), "10.2.2.0/24": ("y", "b")}
    judged = judge(snapshot(blocks, one, other), FACTS)
    assert "networks x and y both want VNI 1 on UDP port 8472" in words(judged)
    assert [*judged.snapshot.blocks] == ["10.1.1.0/24"]
    apart = judge(snapshot(blocks, one, network("y", "10.2.0.0/16", transport="vxlan", vni=2)), FACTS)
    assert not apart.doubts


def test_networks_share_the_devices_of_ipip() -> None:
    one, other = (network(n, p, transport="ipip") for n, p in (("x", "10.1.0.0/16"), ("y", "10.2.0.0/16")))
    blocks = {"10.1.2.0/24": ("x", "b"), "10.2.2.0/24": ("y", "b")}
    judged = judge(snapshot(blocks, one, other), FACTS)
    assert not judged.doubts and judged.snapshot.blocks.keys() == blocks.keys()


def test_two_nodes_with_one_address_are_both_named() -> None:
    known = snapshot(GOOD)
    twin = Node(name="c", spec=NodeSpec(addresses=("192.0.2.2/24",)))
    told = Snapshot(
        networks=known.networks, nodes=known.nodes | {"c": twin}, blocks=known.blocks, synced=True
    )
    judged = judge(told, FACTS)
    assert "nodes b and c both say that 192.0.2.2 is theirs" in words(judged)
    assert judged.snapshot.blocks.keys() == GOOD.keys()


def test_a_peer_that_claims_this_nodes_address_is_not_reached_by_way_of_itself() -> None:
    known = snapshot(GOOD)
    thief = Node(name="c", spec=NodeSpec(addresses=("192.0.2.1/24",)))
    told = Snapshot(
        networks=known.networks, nodes=known.nodes | {"c": thief}, blocks=known.blocks, synced=True
    )
    judged = judge(told, FACTS)
    assert "nodes a and c both say that 192.0.2.1 is theirs" in words(judged)
    assert judged.snapshot.blocks.keys() == {"10.244.1.0/24", "10.244.2.0/24"}


def _keeps(bad: Unreadable, value: object) -> bool:
    told = snapshot(GOOD, unreadable=(bad,))
    return keeps(judge(told, FACTS).doubts, value, told.networks, {"pwv1"})  # type: ignore[arg-type]


def route(dst: str) -> Route:
    """A route of Podway's."""
    return Route(dst=dst, via="192.0.2.9", dev="up0")


def test_an_unreadable_block_keeps_its_own_objects_only() -> None:
    bad = Unreadable("Block", "10.244.9.0/24", "garbage")
    assert _keeps(bad, route("10.244.9.0/24")) and not _keeps(bad, route("10.244.8.0/24"))
    assert _keeps(bad, Neighbour(link="pwv1", address="10.244.9.0", mac="02:00:00:00:00:01"))
    assert not _keeps(bad, Neighbour(link="pwv1", address="10.244.8.0", mac="02:00:00:00:00:01"))
    assert _keeps(bad, Fdb(link="pwv1", mac="02:00:00:00:00:01", dst="192.0.2.9"))
    assert not _keeps(bad, Link(name="pw-old", kind="bridge", alias="podway:bridge:old"))


def test_a_name_that_no_node_claims_by_is_about_nothing() -> None:
    assert not _keeps(Unreadable("Block", "rubbish", "garbage"), route("10.244.9.0/24"))


def test_an_unreadable_node_keeps_its_forwarding_entries_and_blocks() -> None:
    told = snapshot(GOOD | {"10.244.4.0/24": ("pods", "z")}, unreadable=(Unreadable("Node", "z", "garbage"),))
    doubts = judge(told, FACTS).doubts

    def kept(value: object) -> bool:
        return keeps(doubts, value, told.networks, set())  # type: ignore[arg-type]

    assert kept(route("10.244.4.0/24")) and not kept(route("10.244.5.0/24"))
    assert kept(Fdb(link="pwv1", mac=names.mac("vtep", "pods", "z"), dst="192.0.2.9"))
    assert not kept(Fdb(link="pwv1", mac=names.mac("vtep", "pods", "q"), dst="192.0.2.9"))
    assert kept(NftElement(family="inet", set="nodes4", value=("192.0.2.9",)))


def test_an_unreadable_network_keeps_what_is_not_certainly_anothers() -> None:
    bad = Unreadable("Network", "lost", "garbage")
    assert _keeps(bad, Link(name="pw-lost", kind="bridge", alias="podway:bridge:lost"))
    assert not _keeps(bad, Link(name="pw-old", kind="bridge", alias="podway:bridge:old"))
    assert _keeps(bad, route("10.77.1.0/24")) and not _keeps(bad, route("10.244.9.0/24"))


def test_a_last_good_value_leaves_nothing_in_doubt() -> None:
    bad = Unreadable("Block", "10.244.2.0/24", "garbage")
    assert not _keeps(bad, Fdb(link="pwv1", mac="02:00:00:00:00:01", dst="192.0.2.9"))


prefixes = st.builds(
    lambda number, length: f"10.{number >> 8 & 255}.{number & 255}.0/{length}",
    st.integers(0, 0xFFFF).map(lambda n: n & 0xFFF0),
    st.sampled_from([20, 21, 22, 23, 24]),
).filter(lambda text: not int(text.split(".")[2]) % (1 << (24 - int(text.rpartition("/")[2]))))


@given(st.sets(prefixes, max_size=12), st.sets(prefixes, min_size=1, max_size=6))
def test_no_route_is_wanted_outside_the_pools_or_twice(claimed: set[str], pools: set[str]) -> None:
    net = Network(
        name="pods",
        spec=NetworkSpec(
            transport="host-gw", pools=tuple(Pool(cidr=p, block_size=24) for p in outermost(pools))
        ),
    )
    planner = Planner(FACTS)
    planner.update_snapshot(snapshot(dict.fromkeys(claimed, ("pods", "b")), net))
    spans = sorted(span(o.dst) for o in planner.desired.values() if isinstance(o, Route))
    assert all(one[2] < other[1] for one, other in itertools.pairwise(spans))
    inside = [span(pool) for pool in pools]
    assert all(any(p[1] <= one[1] and one[2] <= p[2] for p in inside) for one in spans)
    good = {c for c in claimed if c.endswith("/24") and any(_in(c, pool) for pool in pools)}
    assert {span(cidr) for cidr in good} <= set(spans)


def _in(inner: str, outer: str) -> bool:
    return span(outer)[1] <= span(inner)[1] and span(inner)[2] <= span(outer)[2]

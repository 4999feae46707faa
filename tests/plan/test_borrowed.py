"""A borrowed address is a route of full length to its borrower, by every transport; its owner takes it in."""

from __future__ import annotations

import pytest

from podway.model.lending import Borrow, BorrowSpec
from podway.model.objects import Route
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
    Unreadable,
    Uplink,
)
from podway.model.wireguard import WgAllowed
from podway.plan.borrowed import blocks, lent
from podway.plan.path import Chosen, PathKey
from podway.plan.planner import Planner

POOLS = (Pool(cidr="10.1.0.0/29", block_size=30), Pool(cidr="fd00:1::/125", block_size=126))
BLOCK_OF = {"a": ("10.1.0.0/30", "fd00:1::/126"), "b": ("10.1.0.4/30", "fd00:1::4/126")}
LENT4, LENT6 = "10.1.0.3", "fd00:1::3"  # of a's
KEYS = {name: f"wEu9JdVpmWTJcLZUmsLFVRA1rjgcFLnSSd5pDfiMN{name}Y=" for name in "abc"}


def snapshot(transport: str, borrower: str, *addresses: str) -> Snapshot:
    spec = NetworkSpec(pools=POOLS, attach="routed", transport=transport)  # type: ignore[arg-type]
    way = {"vxlan": "vxlan:1:8472:4", "wireguard": "wireguard:51820:4"}.get(transport, transport)
    ways = ("ipip:4", "ipip:6") if transport == "ipip" else (way,)
    said = {
        name: Paths(accepts=ways, sends=ways, keys=((way, key),) if transport == "wireguard" else ())
        for name, key in KEYS.items()
    }
    nodes = {
        name: Node(
            name=name,
            paths={"pods": said[name]},
            spec=NodeSpec(addresses=(f"192.0.2.{number}/24", f"2001:db8::{number}/64")),
        )
        for number, name in enumerate("abc", start=1)
    }
    owned = {
        cidr: Block(cidr=cidr, spec=BlockSpec(network="pods", node=node, attach="routed"))
        for node, cidrs in BLOCK_OF.items()
        for cidr in cidrs
    }
    borrows = {a: Borrow(address=a, spec=BorrowSpec(network="pods", node=borrower)) for a in addresses}
    networks = {"pods": Network(name="pods", spec=spec)}
    return Snapshot(networks=networks, nodes=nodes, blocks=owned, borrows=borrows, synced=True)


def planner(node: str, seen: Snapshot) -> Planner:
    number = "abc".index(node) + 1
    addresses = (f"192.0.2.{number}/24", f"2001:db8::{number}/64")
    uplink = Uplink(name="up0", mtu=1500, addresses=addresses)
    made = Planner(NodeFacts(name=node, uplinks=(uplink,), keys={"wireguard:51820:4": KEYS[node]}))
    direct = Chosen("direct", "proved")
    made.update_paths({PathKey("pods", peer, family): direct for peer in "abc" for family in (4, 6)})
    made.update_snapshot(seen)
    return made


def routes(made: Planner) -> dict[str, Route]:
    found = [one for one in made.desired.values() if isinstance(one, Route)]
    return {route.dst: route for route in found}


@pytest.mark.parametrize("transport", ["host-gw", "vxlan", "ipip", "wireguard"])
@pytest.mark.parametrize("node", ["a", "c"])
def test_it_is_reached_as_the_borrowers_blocks_are(transport: str, node: str) -> None:
    """By its owner, whose blackhole it goes before, and by a third; it goes as it came."""
    made = planner(node, snapshot(transport, "b", LENT4, LENT6))
    found = routes(made)
    for single, block in ((f"{LENT4}/32", "10.1.0.4/30"), (f"{LENT6}/128", "fd00:1::4/126")):
        one, other = found[single], found[block]
        assert (one.dev, one.type, one.outer) == (other.dev, "unicast", other.outer)
        if transport in ("host-gw", "ipip"):
            assert one.via == other.via
    assert not made.conflicts and not made.notes
    made.update_snapshot(snapshot(transport, "b"))
    assert f"{LENT4}/32" not in routes(made) and f"{LENT6}/128" not in routes(made)


def test_wireguard_takes_it_from_the_borrower_alone() -> None:
    made = planner("a", snapshot("wireguard", "b", LENT4))
    assert f"{LENT4}/32" in {one.prefix for one in made.desired.values() if isinstance(one, WgAllowed)}


@pytest.mark.parametrize("transport", ["host-gw", "vxlan", "bgp"])
def test_its_borrower_lets_it_lead_nowhere_while_no_pod_has_it(transport: str) -> None:
    """After the route to a pod; and it is nothing that a tunnel's end would show."""
    made = planner("b", snapshot(transport, "b", LENT4))
    assert routes(made)[f"{LENT4}/32"] == Route(dst=f"{LENT4}/32", type="blackhole", metric=4096)
    assert not [key for key in made.desired if key[0] == "address" and LENT4 in key[2]]


@pytest.mark.parametrize("transport", ["vxlan", "ipip", "wireguard"])
def test_the_end_of_its_tunnel_has_an_address_without_a_block(transport: str) -> None:
    """Else the kernel takes in nothing there that it wouldn't answer by the tunnel: a node's own packets."""
    made = planner("c", snapshot(transport, "c", LENT4, LENT6))
    ends = [key[1:] for key in made.desired if key[0] == "address"]
    assert [address for _, address in ends] == ["169.254.1.2/32"]
    assert ("link", ends[0][0]) in made.desired


def test_a_node_that_has_borrowed_only_is_asked_there() -> None:
    made = planner("a", snapshot("host-gw", "c", LENT4))
    assert made.targets.by_path[PathKey("pods", "c", 4)].inside == LENT4
    assert planner("c", snapshot("host-gw", "c", LENT4)).targets.answers == {f"{LENT4}/32": LENT4}
    # its own blocks are asked about before
    both = planner("a", snapshot("host-gw", "b", LENT4))
    assert both.targets.by_path[PathKey("pods", "b", 4)].inside == "10.1.0.4"


def test_bgp_tells_of_it_and_the_owner_takes_it_in() -> None:
    seen = snapshot("bgp", "b", LENT4, LENT6)
    owner, borrower, third = (planner(node, seen).speaker().speaker for node in "abc")
    assert owner is not None and borrower is not None and third is not None
    assert owner.lent == (f"{LENT4}/32", f"{LENT6}/128") and owner.own == tuple(sorted(BLOCK_OF["a"]))
    assert {f"{LENT4}/32", f"{LENT6}/128"} <= set(borrower.own) and borrower.lent == ()
    assert third.lent == ()
    assert f"{LENT4}/32" in planner("a", seen).unlearned


def test_what_is_in_no_pool_is_nobodys() -> None:
    seen = snapshot("host-gw", "b", "10.1.0.9", "192.0.2.1")
    assert blocks(seen) == {}
    assert lent("a", seen.blocks.values()) == ()


def test_of_one_that_cannot_be_read_the_route_stays() -> None:
    made = planner("a", snapshot("host-gw", "b", LENT4))
    route = routes(made)[f"{LENT4}/32"]
    unreadable = (Unreadable("Borrow", LENT4, "stored Borrow can't be read"),)
    seen = snapshot("host-gw", "b")
    made.update_snapshot(
        Snapshot(**{n: getattr(seen, n) for n in ("networks", "nodes", "blocks")}, unreadable=unreadable)
    )
    assert made.keeps(route)

"""What is offered of a block, and what a node could borrow."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podway.ipam.blocks import candidates, number_of_blocks
from podway.ipam.lending import OFFERED, borrowable, is_used_up, lends, offers, spare
from podway.ipam.state import Allocations, Choice
from podway.model.lending import Borrow, BorrowSpec
from podway.model.resources import Block, BlockSpec, Network, NetworkSpec, Node, NodeSpec, Pool, Snapshot


def network(*pools: Pool, **more: str) -> Network:
    spec = {"attach": "routed", "transport": "bgp"} | more
    return Network(name="n", spec=NetworkSpec(pools=pools or (Pool(cidr="10.0.0.0/24"),), **spec))  # type: ignore[arg-type]


def test_who_lends() -> None:
    assert lends(network()) and lends(network(transport="vxlan"))
    assert not lends(network(attach="bridge")) and not lends(network(transport="none"))


def test_a_pool_is_used_up_when_nothing_can_be_claimed() -> None:
    small = network(Pool(cidr="10.0.0.0/29", block_size=30), Pool(cidr="fd00::/48"))
    assert number_of_blocks(small, 4) == 2
    assert not is_used_up(small, 4, ["10.0.0.0/30"], (), "a")
    assert is_used_up(small, 4, ["10.0.0.0/30"], ("10.0.0.4/31",), "a")  # the underlay lies in the other
    assert is_used_up(small, 4, ["10.0.0.0/30", "10.0.0.4/30"], (), "a")
    assert not is_used_up(small, 6, ["10.0.0.0/30", "10.0.0.4/30"], (), "a")
    assert next(candidates(small, ["10.0.0.0/30", "10.0.0.4/30"], 4, "a"), None) is None


def test_spare_are_the_last_that_a_pod_may_have() -> None:
    pool = Pool(cidr="10.0.0.0/28", block_size=29, reserved=("10.0.0.6",))
    taken = {"10.0.0.4"}
    assert spare(network(pool), "10.0.0.0/29", taken.__contains__) == [
        "10.0.0.7",
        "10.0.0.5",
        "10.0.0.3",
        "10.0.0.2",
        "10.0.0.1",
    ]
    wide = network(Pool(cidr="fd00::/48", block_size=64))
    assert spare(wide, "fd00::/64", {"fd00::ffff:ffff:ffff:ffff"}.__contains__)[:1] == [
        "fd00::ffff:ffff:ffff:fffe"
    ]


addresses = [f"10.0.0.{n}" for n in range(1, 30)]


@given(st.data(), st.booleans())
def test_offers_never_take_more_than_half_and_keep_what_is_borrowed(
    data: st.DataObject, used_up: bool
) -> None:
    offered = frozenset(data.draw(st.sets(st.sampled_from(addresses))))
    borrowed = data.draw(st.sets(st.sampled_from(addresses)))
    free = [a for a in addresses if a not in offered and a not in borrowed][: data.draw(st.integers(0, 8))]
    now = offers(free, offered, borrowed, used_up)
    assert offered & borrowed <= now <= offered | {*free}
    idle, before = now - borrowed, offered - borrowed
    if not used_up:
        assert not idle
        return
    wanted = min(OFFERED, (len(free) + len(before) + 1) // 2)
    assert wanted <= len(idle) <= max(wanted + OFFERED, 0)
    left = [a for a in free if a not in now] + sorted(before - now)
    assert offers(left, now, borrowed, used_up) == now  # nothing goes to and fro


def _snapshot(*borrowed: str) -> Snapshot:
    def block(cidr: str, node: str, *offered: str, net: str = "n", attach: str = "routed") -> Block:
        spec = BlockSpec(network=net, node=node, attach=attach)  # type: ignore[arg-type]
        return Block(cidr=cidr, spec=spec, offers=offered)

    blocks = [
        block("10.0.0.0/26", "a", "10.0.0.63", "10.0.0.62"),
        block("10.0.0.64/26", "b", "10.0.0.127"),
        block("10.0.0.128/26", "gone", "10.0.0.191"),
        block("10.0.1.0/26", "b", "10.0.1.63", net="other"),
        block("10.0.0.192/26", "b", "10.0.0.255", attach="bridge"),
        block("fd00::/122", "b", "fd00::3f"),
    ]
    borrows = {a: Borrow(address=a, spec=BorrowSpec(network="n", node="x")) for a in borrowed}
    nodes = {name: Node(name=name, spec=NodeSpec()) for name in "abc"}
    return Snapshot(nodes=nodes, blocks={b.cidr: b for b in blocks}, borrows=borrows, synced=True)


def test_what_others_that_live_offer_and_nobody_has() -> None:
    found = borrowable(network(), 4, _snapshot(), "c")
    assert sorted(found) == [
        ("10.0.0.127", "10.0.0.64/26"),
        ("10.0.0.62", "10.0.0.0/26"),
        ("10.0.0.63", "10.0.0.0/26"),
    ]
    assert borrowable(network(), 6, _snapshot(), "c") == [("fd00::3f", "fd00::/122")]
    assert borrowable(network(), 4, _snapshot("10.0.0.62", "10.0.0.63"), "b") == []
    assert borrowable(network(), 4, _snapshot(), "c", wanted="10.0.0.62") == [("10.0.0.62", "10.0.0.0/26")]
    number = int(ip_address("10.0.0.127"))
    assert borrowable(network(), 4, _snapshot(), "c", limits=[(number, number)]) == [
        ("10.0.0.127", "10.0.0.64/26")
    ]
    orders = {tuple(borrowable(network(), 4, _snapshot(), f"node{n}")) for n in range(20)}
    assert len(orders) > 3


@pytest.mark.parametrize("single", ["10.0.0.63/32", "10.0.0.64/32", "fd00::/128"])
def test_a_borrowed_address_is_given_as_it_is(single: str) -> None:
    """Whatever its place in a block: what has to be kept back, its owner has not offered."""
    both = network(Pool(cidr="10.0.0.0/24") if "." in single else Pool(cidr="fd00::/112"))
    found = Allocations().choose(both, [single], "c1/eth0", 0.0)
    assert isinstance(found, Choice) and found.addresses == (single,)

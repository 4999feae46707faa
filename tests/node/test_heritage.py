"""A store that was lost and made anew: what was known counts until the nodes have come back, no longer."""

from __future__ import annotations

from podway.model.lending import Borrow, BorrowSpec
from podway.model.resources import Block, BlockSpec, Node, NodeSpec, Paths, Snapshot
from podway.node.heritage import GRACE, Heritage

WAYS = {"pods": Paths(accepts=("vxlan",), sends=("vxlan",))}


def node(name: str, paths: dict[str, Paths] = WAYS) -> Node:
    return Node(name=name, spec=NodeSpec(), paths=paths)


def snapshot(store: str, *names: str) -> Snapshot:
    spec = {name: BlockSpec(network="pods", node=name, attach="bridge") for name in names}
    blocks = {f"10.0.{ord(name)}.0/24": one for name, one in spec.items()}
    return Snapshot(
        nodes={name: node(name) for name in names},
        blocks={cidr: Block(cidr=cidr, spec=one) for cidr, one in blocks.items()},
        synced=True,
        store=store,
    )


def test_a_store_that_stays_is_taken_at_its_word() -> None:
    heritage = Heritage()
    assert heritage.step(snapshot("one", "a", "b"), snapshot("one", "a"), 0.0) == snapshot("one", "a")
    assert heritage.until is None and heritage.missing("b") == []


def test_the_first_store_has_no_heritage() -> None:
    assert Heritage().step(Snapshot(), snapshot("one", "a"), 0.0) == snapshot("one", "a")


def test_nodes_and_blocks_of_a_lost_store_count_until_they_are_back() -> None:
    heritage = Heritage()
    union = heritage.step(snapshot("one", "a", "b"), snapshot("two"), 0.0)
    assert union == snapshot("two", "a", "b")
    assert [block.spec.node for block in heritage.missing("a")] == ["a"]
    # a is back, b has an object and told nothing yet
    listed = snapshot("two", "a")
    listed.nodes["b"] = node("b", {})
    union = heritage.step(union, listed, 1.0)
    assert union.nodes["b"].paths == WAYS and len(union.blocks) == 2
    assert heritage.missing("a") == [] and [block.spec.node for block in heritage.missing("b")] == ["b"]


def test_who_does_not_come_back_is_gone_in_the_end() -> None:
    heritage = Heritage()
    union = heritage.step(snapshot("one", "a", "b"), snapshot("two"), 0.0)
    union = heritage.step(union, snapshot("two", "a"), GRACE / 2)
    assert "b" in union.nodes
    assert heritage.step(union, snapshot("two", "a"), GRACE) == snapshot("two", "a")
    assert heritage.until is None


def test_what_was_borrowed_counts_likewise() -> None:
    heritage = Heritage()
    borrow = Borrow(address="10.0.97.9", spec=BorrowSpec(network="pods", node="b"))
    before = snapshot("one", "a", "b")
    before.borrows[borrow.address] = borrow
    union = heritage.step(before, snapshot("two"), 0.0)
    assert union.borrows == {borrow.address: borrow}
    assert heritage.missing_borrows("b") == [borrow] and heritage.missing_borrows("a") == []
    listed = snapshot("two", "a", "b")
    listed.borrows[borrow.address] = borrow
    heritage.step(union, listed, 1.0)
    assert heritage.missing_borrows("b") == []

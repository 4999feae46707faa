"""Addresses that nodes have borrowed of each other's blocks: each is planned like a block of its own. Pure.

It is a route of full length, so it goes before the owner's block everywhere, the owner's blackhole included,
and it goes by whatever leads to the borrower's own blocks. See docs/borrowing.md.
"""

from __future__ import annotations

from collections.abc import Iterable

from podway.model.objects import family_of
from podway.model.resources import Block, BlockSpec, Snapshot
from podway.plan.doubts import span, within

LENGTHS = {4: 32, 6: 128}


def blocks(snapshot: Snapshot) -> dict[str, Block]:
    """Prefix of full length → block of the borrower; an address in no pool of its network is nobody's."""
    found: dict[str, Block] = {}
    for address, borrow in snapshot.borrows.items():
        network = snapshot.networks.get(borrow.spec.network)
        pools = network.spec.pools if network is not None else ()
        if any(within(span(address), span(pool.cidr)) for pool in pools):
            cidr = f"{address}/{LENGTHS[family_of(address)]}"
            spec = BlockSpec(network=borrow.spec.network, node=borrow.spec.node, attach="routed")
            found[cidr] = Block(cidr=cidr, spec=spec, borrowed=True)
    return found


def lent(node: str, every: Iterable[Block]) -> tuple[str, ...]:
    """Of a node's own blocks, the addresses (as prefixes) that others have borrowed."""
    every = list(every)
    others = [block.cidr for block in every if block.borrowed and block.spec.node != node]
    if not others:
        return ()
    own = [span(block.cidr) for block in every if not block.borrowed and block.spec.node == node]
    return tuple(sorted(cidr for cidr in others if any(within(span(cidr), block) for block in own)))

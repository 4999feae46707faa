"""``doubts.judge`` after a small change of a large cluster, at the cost of the change. Pure.

As long as nothing is in doubt, only what changed can bring a doubt: a block that lies outside of its pools
or over another, an address that two nodes have. Where something looks like it, and wherever else this
can't tell, the whole is judged anew, so that there is one place that says what is wrong.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import msgspec

from podway.model.resources import Block, Node, NodeFacts, Snapshot
from podway.plan.doubts import Judged, Span, firsts, judge, span, underlay_of, within


class Judge:
    """``step`` with each snapshot; the result is what ``doubts.judge`` says of it."""

    def __init__(self) -> None:
        self._judged = Judged(snapshot=Snapshot())
        self._facts: NodeFacts | None = None
        self._seen = Snapshot()
        self._blocks: list[Span] = []
        self._addresses: list[Span] = []  # of nodes
        self._firsts: Counter[str] = Counter()  # the first address of each family of each node
        self._links: list[Span] = []
        self._own: set[str] = set()

    def step(self, snapshot: Snapshot, facts: NodeFacts) -> Judged:
        """What is in doubt of ``snapshot``, as the node of ``facts`` sees it."""
        if not self._is_small(snapshot, facts) or not self._follow(snapshot):
            self._judged = judge(snapshot, facts)
            self._begin(snapshot, facts)
        self._seen = snapshot
        return self._judged

    def _is_small(self, snapshot: Snapshot, facts: NodeFacts) -> bool:
        calm = not self._judged.doubts and not snapshot.unreadable
        return calm and facts == self._facts and snapshot.networks == self._seen.networks

    def _begin(self, snapshot: Snapshot, facts: NodeFacts) -> None:
        """Index everything; of no use while something is in doubt."""
        self._facts = facts
        if self._judged.doubts:
            return
        nodes = snapshot.nodes.values()
        self._blocks = sorted(span(cidr) for cidr in snapshot.blocks)
        if any(_overlap(one, other) for one, other in pairwise(self._blocks)):
            self._facts = None  # of networks that nobody knows: the order here tells nothing of what meets
        self._addresses = sorted(span(_bare(a)) for node in nodes for a in node.spec.addresses)
        self._firsts = Counter(address for node in nodes for address in firsts(node))
        links = [*facts.others, *(address for uplink in facts.uplinks for address in uplink.addresses)]
        self._links = [span(address) for address in links]
        self._own = {_bare(address) for uplink in facts.uplinks for address in uplink.addresses}

    def _follow(self, snapshot: Snapshot) -> bool:
        """Take the changes in; False where something may be in doubt: then nothing here counts any more."""
        avoid = dict(self._judged.avoid)
        nodes = list(_changed(self._seen.nodes, snapshot.nodes))
        blocks = list(_changed(self._seen.blocks, snapshot.blocks))
        fine = all([self._forget(old, avoid) for _, old, _ in nodes if old is not None])  # noqa: C419
        for cidr, old, new in blocks:
            if old is not None and new is None:
                del self._blocks[bisect_left(self._blocks, span(cidr))]
        entered = [self._enter(new, avoid) for _, _, new in nodes if new is not None]
        fine = fine and all(entered)
        for cidr, old, new in blocks:
            if new is not None:
                fine = fine and self._is_in_pool(cidr, new, snapshot)
                moved = old is not None and old.spec.network != new.spec.network
                fine = fine and not moved and (old is not None or self._claim(span(cidr)))
        if fine:
            self._judged = msgspec.structs.replace(self._judged, snapshot=snapshot, avoid=avoid)
        return fine

    def _forget(self, node: Node, avoid: dict[str, str]) -> bool:
        places = [span(_bare(address)) for address in node.spec.addresses]
        for place in places:
            del self._addresses[bisect_left(self._addresses, place)]
        for prefix, _ in underlay_of(node):
            avoid.pop(prefix, None)
        self._firsts.subtract(firsts(node))
        mine = self._facts is not None and node.name == self._facts.name
        return not mine and not any(_meets(self._addresses, place) for place in places)

    def _enter(self, node: Node, avoid: dict[str, str]) -> bool:
        for address in node.spec.addresses:
            insort(self._addresses, span(_bare(address)))
        avoid.update(underlay_of(node))
        own = firsts(node)
        self._firsts.update(own)
        mine = self._facts is not None and node.name == self._facts.name
        alone = all(self._firsts[a] < 2 and (mine or a not in self._own) for a in own)
        places = [span(_bare(address)) for address in node.spec.addresses]
        return alone and not any(_meets(self._blocks, place) for place in places)

    def _is_in_pool(self, cidr: str, block: Block, snapshot: Snapshot) -> bool:
        network = snapshot.networks.get(block.spec.network)
        place = span(cidr)
        return network is not None and any(within(place, span(pool.cidr)) for pool in network.spec.pools)

    def _claim(self, place: Span) -> bool:
        free = not _meets(self._blocks, place) and not _meets(self._addresses, place)
        insort(self._blocks, place)
        return free and not any(_overlap(place, link) for link in self._links)


def _changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """(Name, before, after) of what is not the same, None for what is not there."""
    for name, value in old.items():
        if name not in new:
            yield name, value, None
    for name, value in new.items():
        before = old.get(name)
        if before is not value and before != value:
            yield name, before, value


def _bare(address: str) -> str:
    return address.partition("/")[0]


def _overlap(one: Span, other: Span) -> bool:
    return one[0] == other[0] and one[1] <= other[2] and other[1] <= one[2]


def _meets(ordered: list[Span], place: Span) -> bool:
    """Whether one of ``ordered``, which are apart from each other, overlaps ``place``."""
    at = bisect_left(ordered, place)
    return any(_overlap(one, place) for one in ordered[max(0, at - 1) : at + 1])

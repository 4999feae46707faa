"""What a store held that was lost and made anew: kept until its nodes have come back. Pure.

Whoever applies documents to an etcd that was wiped makes a store without nodes and blocks. Nobody said
that they are gone: for a while they count as they were, and each node writes again what is its own.
"""

from __future__ import annotations

import msgspec

from podway.model.lending import Borrow
from podway.model.resources import Block, Snapshot

GRACE = 60.0  # seconds: four times what an agent waits at most before it looks for its store again


class Heritage:
    """Shown every snapshot that was listed, with the one before it."""

    def __init__(self) -> None:
        self._last: Snapshot | None = None
        self._listed = Snapshot()
        self.until: float | None = None  # monotonic seconds; None: nothing is kept

    def step(self, before: Snapshot, listed: Snapshot, now: float) -> Snapshot:
        """What counts: ``listed``, and what is still kept of the store before."""
        if before.store and before.store != listed.store:
            self._last, self.until = before, now + GRACE
        if self.until is not None and now >= self.until:
            self._last = self.until = None
        self._listed = listed
        if self._last is None:
            return listed
        silent = {name for name, node in listed.nodes.items() if not node.paths}
        kept = {name: node for name, node in self._last.nodes.items() if name in silent}
        return msgspec.structs.replace(
            listed,
            networks=self._last.networks | listed.networks,
            nodes=self._last.nodes | listed.nodes | kept,
            blocks=self._last.blocks | listed.blocks,
            borrows=self._last.borrows | listed.borrows,
        )

    def missing(self, node: str) -> list[Block]:
        """Blocks that were a node's in the store before, and are nobody's in this one."""
        if self._last is None:
            return []
        lost = self._last.blocks.keys() - self._listed.blocks.keys()
        return [self._last.blocks[cidr] for cidr in sorted(lost) if self._last.blocks[cidr].spec.node == node]

    def missing_borrows(self, node: str) -> list[Borrow]:
        """The same of what the node had borrowed."""
        if self._last is None:
            return []
        lost = self._last.borrows.keys() - self._listed.borrows.keys()
        return [self._last.borrows[one] for one in sorted(lost) if self._last.borrows[one].spec.node == node]

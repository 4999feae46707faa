"""This node's part in lending single addresses: see docs/borrowing.md for why the steps come in this order.

As an owner it offers addresses of its blocks and takes them back; as a borrower it makes and removes Borrows.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import msgspec

from podway import durable
from podway.ipam.lending import borrowable, is_used_up, lends, offers, spare
from podway.ipam.state import Allocations
from podway.model.errors import Unavailable
from podway.model.lending import Borrow
from podway.model.objects import family_of
from podway.model.resources import Block, Network
from podway.node.cluster import Cluster
from podway.node.database import Database, JournalEntry
from podway.node.faults import reach
from podway.plan.borrowed import LENGTHS
from podway.plan.doubts import span, within
from podway.plan.planner import Planner

FILE = "offers.json"
OFFER = "other nodes, to borrow"  # who holds what is offered
TRIES = 16  # offers of others, each a write, that one ADD tries


class _File(msgspec.Struct, frozen=True):
    """``offers``: own block → addresses that others were or are about to be offered."""

    version: int = 1
    offers: dict[str, tuple[str, ...]] = {}


class Lending:
    """All methods run on the writer thread."""

    def __init__(
        self,
        cluster: Cluster,
        database: Database,
        planner: Planner,
        allocations: Allocations,
        now: Callable[[], float],
    ) -> None:
        self._cluster = cluster
        self._database = database
        self._planner = planner
        self._allocations = allocations
        self._now = now
        self._path = Path(database.directory, FILE)
        #: own block → what may have been offered: more than the store says while a write is on its way
        self._offered = self._load()
        self._borrowed = {a: b for a, b in cluster.snapshot.borrows.items() if b.spec.node == cluster.node}
        self._used_up: dict[tuple[Network, int], bool] = {}
        self._used_up_as_of: tuple[Mapping[str, Block], Mapping[str, str]] = ({}, {})
        self._kept: dict[str, str] = {}
        self._kept_as_of: object = None

    # what an owner does ------------------------------------------------------------------------------

    def kept_back(self) -> Mapping[str, str]:
        """Addresses of own blocks that no pod here may get, and who has them instead."""
        snapshot = self._cluster.snapshot
        if self._kept_as_of is not snapshot:
            self._kept_as_of = snapshot
            self._kept = {address: OFFER for found in self._offered.values() for address in found}
            if snapshot.borrows:
                own = [c for c, b in snapshot.blocks.items() if b.spec.node == self._cluster.node]
                lent = ((address, snapshot.borrows[address].spec.node) for address in self._lent(own))
                self._kept |= {address: f"node {node}" for address, node in lent}
        return self._kept

    def _lent(self, own: Collection[str]) -> list[str]:
        """Addresses of ``own`` blocks that other nodes have borrowed."""
        spans = [span(cidr) for cidr in own]
        return [
            address
            for address, borrow in self._cluster.snapshot.borrows.items()
            if borrow.spec.node != self._cluster.node and any(within(span(address), one) for one in spans)
        ]

    def _idle(self, cidr: str) -> frozenset[str]:
        """What is offered of a block and, as far as is known, not borrowed."""
        return self._offered.get(cidr, frozenset()) - self._cluster.snapshot.borrows.keys()

    def _own_blocks(self) -> list[Block]:
        blocks = self._planner.blocks_of(self._cluster.node)
        return [block for block in blocks if not block.borrowed and block.spec.attach == "routed"]

    def _is_own(self, cidr: str) -> bool:
        block = self._cluster.snapshot.blocks.get(cidr)
        return block is not None and block.spec.node == self._cluster.node

    def offer(self, leaving: Collection[str]) -> None:
        """Offer of each block what others may need, and no more. ``leaving``: blocks to offer nothing of."""
        snapshot = self._cluster.snapshot
        self._offered = {c: found for c, found in self._offered.items() if self._is_own(c)}
        for block in self._own_blocks():
            network, family = snapshot.networks.get(block.spec.network), family_of(block.cidr)
            if network is None or block.cidr in leaving or not self._is_own(block.cidr):
                continue
            used_up = self._is_used_up(network, family)
            before = self._forget_given(block.cidr)
            free = spare(network, block.cidr, self._is_taken) if used_up else []
            with contextlib.suppress(Unavailable):  # the next look goes on with it
                self._bring(block.cidr, before, offers(free, before, snapshot.borrows, used_up))

    def _is_used_up(self, network: Network, family: int) -> bool:
        """Looked at anew when a block came or went; most looks at a store are about something else."""
        blocks, avoid = self._cluster.snapshot.blocks, self._planner.avoid
        known, avoided = self._used_up_as_of
        if known.keys() != blocks.keys() or avoided != avoid:
            self._used_up, self._used_up_as_of = {}, (blocks, avoid)
        if (network, family) not in self._used_up:
            found = lends(network) and is_used_up(network, family, blocks, avoid, self._cluster.node)
            self._used_up[network, family] = found
        return self._used_up[network, family]

    def _forget_given(self, cidr: str) -> frozenset[str]:
        """What is offered of a block, less what was taken back and given to a pod before a restart, or before
        the store was put back to an earlier state."""
        before = self._offered.get(cidr, frozenset()) | {*self._cluster.snapshot.blocks[cidr].offers}
        before -= {address for address in before if self._is_given(address)}
        if before != self._offered.get(cidr):
            self._offered[cidr] = before
            self._kept_as_of = None
        return before

    def _is_given(self, address: str) -> bool:
        """Whether a pod here has it, or had it lately."""
        holder = self._allocations.holders.get(address, OFFER)
        cools = self._allocations.cooling.get(address, 0.0) > self._now()
        return cools or not (holder == OFFER or holder.startswith("node "))

    def _is_taken(self, address: str) -> bool:
        held = address in self._allocations.holders or address in self._cluster.snapshot.borrows
        return held or self._allocations.cooling.get(address, 0.0) > self._now()

    def _bring(self, cidr: str, before: frozenset[str], wanted: frozenset[str]) -> bool:
        """Make ``wanted`` what is offered of a block; whether that is done. Raises Unavailable.

        What comes is kept back here before anybody is told; what goes is free here once it is certain that
        nobody has borrowed it in the meantime."""
        if wanted - before:
            self._offered[cidr] = before | wanted
            self._kept_as_of = None
            self._save()
            reach("lend.kept")
        if not before == wanted == frozenset(self._cluster.snapshot.blocks[cidr].offers):
            # also where it says so: a write of before a restart that is on its way yet comes too late now
            if not self._cluster.tell_offers(cidr, tuple(sorted(wanted))):
                return False
            reach("lend.told")
        if before - wanted:
            self._cluster.look_at_borrows()
            self._offered[cidr] = wanted
            self._save()
            self._kept_as_of = None
        return True

    def recall(self, network: Network, family: int, closed: Collection[str]) -> bool:
        """Take back what a block of this node offers, for a pod of its own; whether that gave any.

        Raises Unavailable."""
        for block in self._own_blocks():
            if block.spec.network != network.name or family_of(block.cidr) != family or block.cidr in closed:
                continue
            idle = self._idle(block.cidr)
            if idle and self._take_back(block.cidr, idle):
                return True
        return False

    def recall_one(self, address: str) -> None:
        """Take back one address that a pod asks for by name, if it is offered."""
        for block in self._own_blocks():
            if address in self._idle(block.cidr):
                self._take_back(block.cidr, frozenset({address}))

    def clear(self, cidr: str) -> bool:
        """Offer nothing of a block any more; whether nobody has borrowed of it, so that it can go."""
        with contextlib.suppress(Unavailable):
            idle = self._idle(cidr)
            return (not idle or self._take_back(cidr, idle)) and not self._lent([cidr])
        return False

    def _take_back(self, cidr: str, addresses: frozenset[str]) -> bool:
        before = self._offered.get(cidr, frozenset())
        return self._bring(cidr, before, before - addresses)

    def _load(self) -> dict[str, frozenset[str]]:
        try:
            found = msgspec.json.decode(self._path.read_bytes(), type=_File)
        except (OSError, msgspec.MsgspecError):
            return {}
        return {cidr: frozenset(addresses) for cidr, addresses in found.offers.items()}

    def _save(self) -> None:
        """On the disk, whole or not at all. Raises Unavailable."""
        kept = _File(offers={cidr: tuple(sorted(found)) for cidr, found in self._offered.items() if found})
        try:
            durable.replace(self._path, msgspec.json.encode(kept), 0o600)
        except OSError as error:
            fix = "check free space and permissions of the state directory"
            raise Unavailable(f"what is offered can't be kept: {error}", str(self._path), fix) from error

    # what a borrower does ----------------------------------------------------------------------------

    def borrow(self, network: Network, family: int, wanted: str, limits: Sequence[tuple[int, int]]) -> str:
        """Borrow one address; its prefix of full length, "" when nobody lends one. Raises Unavailable."""
        if not lends(network):
            return ""
        found = borrowable(network, family, self._cluster.snapshot, self._cluster.node, wanted, limits)
        for address, cidr in found[:TRIES]:
            if self._borrow(address, cidr, network.name):
                return f"{address}/{LENGTHS[family]}"
        return ""

    def _borrow(self, address: str, cidr: str, network: str) -> bool:
        made = self._cluster.borrow(address, cidr, network)
        if made is None:
            return False
        self._borrowed[address] = made
        owner = self._cluster.snapshot.blocks[cidr].spec.node
        self._say("borrowed", address, f"of node {owner}'s block {cidr}")
        return True

    def holds(self, address: str) -> bool:
        """Whether this node has borrowed it."""
        return address in self._borrowed

    def settle(self) -> bool:
        """Give back what no pod has any more, and borrow again what went while a pod had it. Whether
        anything changed."""
        snapshot, now = self._cluster.snapshot, self._now()
        known = {a: b for a, b in snapshot.borrows.items() if b.spec.node == self._cluster.node}
        self._borrowed |= known
        changed = False
        for address, borrow in list(self._borrowed.items()):
            if address in self._allocations.holders:
                changed |= address not in known and self._again(address, borrow)
            elif self._allocations.cooling.get(address, 0.0) <= now:
                changed |= address in known and self._give_back(address)
                if address not in self._cluster.snapshot.borrows:
                    del self._borrowed[address]
        return changed

    def _again(self, address: str, borrow: Borrow) -> bool:
        """The store was lost: borrow once more what its owner still keeps back."""
        blocks = self._cluster.snapshot.blocks.values()
        found = next((block.cidr for block in blocks if address in block.offers), "")
        if not found or address in self._cluster.snapshot.borrows:
            return False
        with contextlib.suppress(Unavailable):
            return self._borrow(address, found, borrow.spec.network)
        return False

    def _give_back(self, address: str) -> bool:
        if not self._cluster.give_back(address):
            return False
        reach("borrow.returned")
        self._say("released", address, "borrowed")
        return True

    def _say(self, what: str, address: str, text: str) -> None:
        entry = JournalEntry(self._now(), what, f"address {address}", text, 0.0, "")
        self._database.journal_add([entry])

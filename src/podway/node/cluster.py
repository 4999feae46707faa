"""The cluster as this node sees it: listed from the store, kept locally for an outage."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from podway.ipam.blocks import candidates
from podway.model import documents, stored
from podway.model.errors import PodwayError, Unavailable
from podway.model.lending import BlockStatus, Borrow, BorrowSpec
from podway.model.resources import Block, BlockSpec, Identity, Network, NodeFacts, Paths, Snapshot
from podway.node.database import Database
from podway.node.faults import reach
from podway.node.heritage import Heritage
from podway.store import Exists, NotFound, Objects, Record, Stale, open_store

KINDS = tuple(documents.SPECS)
CHEAP = 0.02  # seconds of a save that may be made every time
SAVING = 0.01  # at most, of all time, where it takes longer


class Cluster:
    """``snapshot`` is the last one known; ``snapshot.synced`` whether it came from the store itself.

    ``trouble`` says why it did not."""

    def __init__(
        self, node: str, store_url: str, database: Database, opener: Callable[[str], Objects] = open_store
    ) -> None:
        self.node = node
        self.trouble = "never listed"
        self._url = store_url
        self._opener = opener
        self._store: Objects | None = None
        self._database = database
        self.registered = True  # whether the last ``register`` was written
        self.unsaved = False  # whether the snapshot is other than what the database has
        self.heritage = Heritage()
        self.another = False  # whether the store was found to be another one than before
        self._pause = 0.0  # monotonic seconds before which a save has to wait
        known = database.snapshot()
        self.snapshot = msgspec.structs.replace(known, synced=False) if known else Snapshot()

    def close(self) -> None:
        """Let go of the store."""
        if self._store is not None:
            self._store.close()
            self._store = None

    @property
    def adopted_bridges(self) -> frozenset[str]:
        """Foreign bridges that networks were told to use."""
        networks = self.snapshot.networks.values()
        return frozenset(n.spec.bridge.name for n in networks if n.spec.bridge.adopt)

    def _open(self) -> Objects:
        if self._store is None:
            self._store = self._opener(self._url)
        return self._store

    def refresh(self, remember: bool = True) -> None:
        """List everything. In an outage the last snapshot stays, marked as not synced."""
        try:
            store = self._open()
            records, _ = store.list(*KINDS)
        except Unavailable as error:
            self.trouble = str(error)
            self.snapshot = msgspec.structs.replace(self.snapshot, synced=False)
            self.close()
            return
        new, _ = stored.snapshot(records, self.snapshot)
        self.trouble = ""
        new = msgspec.structs.replace(new, foreigns=self.snapshot.foreigns, store=store.identity)
        self.another |= self.snapshot.store not in ("", new.store)
        new = self.heritage.step(self.snapshot, new, time.monotonic())
        self.unsaved |= remember and new != self.snapshot and self.heritage.until is None
        self.snapshot = new

    def save(self, now: bool = False) -> None:
        """Keep the snapshot for an outage: once the kernel has it, which is what others wait for.

        A large one is kept seldom enough to cost little: not before ``save_at``, but ``now``."""
        began = time.monotonic()
        if not self.unsaved or (began < self._pause and not now):
            return
        self._database.save_snapshot(self.snapshot)
        self.unsaved = False
        cost = time.monotonic() - began
        self._pause = began + (cost / SAVING if cost > CHEAP else 0.0)

    @property
    def save_at(self) -> float | None:
        """When to save what waits for it (monotonic seconds); None: nothing does."""
        return self._pause if self.unsaved and self._pause > time.monotonic() else None

    def renew(self) -> None:
        """Enter this node's blocks and Borrows in a store that was made anew. Raises Unavailable."""
        for block in self.heritage.missing(self.node):
            status = msgspec.json.encode(BlockStatus(offers=block.offers))
            record = Record(kind="Block", name=block.cidr, spec=documents.spec_json(block), status=status)
            with contextlib.suppress(Exists):  # whoever has it by now, the next list says so
                self._open().create(record)
        for borrow in self.heritage.missing_borrows(self.node):
            record = Record(kind="Borrow", name=borrow.address, spec=documents.spec_json(borrow))
            with contextlib.suppress(Exists):
                self._open().create(record)

    @property
    def own_paths(self) -> dict[str, Paths]:
        """What this node has told of its ways, as last listed."""
        own = self.snapshot.nodes.get(self.node)
        return own.paths if own is not None else {}

    def register(self, facts: NodeFacts, paths: dict[str, Paths]) -> None:
        """Make this node's object if nobody declared it, and say in its status what was found here.

        ``paths``: what it tells of its ways, in the same write: every write wakes every node."""
        macs = tuple(sorted({uplink.mac for uplink in facts.uplinks if uplink.mac}))
        # a link that is being set up anew has no address for a moment: what was told last stays
        news: dict[str, Any] = {"addresses": facts.addresses, "macs": macs} if facts.addresses else {}
        record = self._tell(news | ({"paths": paths} if paths else {}))
        self.registered = record is not None
        if record is None:
            return
        one, _ = stored.snapshot([record])
        # its ways are taken in with everybody else's only, as seen at one moment: see plan.generation
        own = {name: msgspec.structs.replace(node, paths=self.own_paths) for name, node in one.nodes.items()}
        self.snapshot = msgspec.structs.replace(self.snapshot, nodes=self.snapshot.nodes | own)

    def own_status(self) -> stored.NodeStatus | None:
        """What the store says of this node's state; None when it has no such node. Raises Unavailable."""
        assert self._store is not None
        try:
            return stored.node_status(self._store.get("Node", self.node).status)
        except NotFound:
            return None

    def tell_identity(self, identity: Identity) -> bool:
        """Say which machine this node is; whether that was written."""
        return self._tell({"identity": identity}) is not None

    def tell_sessions(self, generation: int) -> None:
        """Say that this node needs no sessions any more but the new ones of this BGPTopology."""
        own = self.snapshot.nodes.get(self.node)
        if own is not None and own.sessions != generation:
            self._tell({"sessions": generation})

    def tell_paths(self, paths: dict[str, Paths]) -> bool:
        """Say in this node's status which ways it accepts and sends; whether that was news.

        It counts from the next ``refresh`` on."""
        return paths != self.own_paths and self._tell({"paths": paths}) is not None

    def _tell(self, news: dict[str, Any]) -> Record | None:
        """Change what is said of this node, and keep the rest as it stands in the store."""
        if self._store is None:
            return None
        try:
            record = self._own_record(news)
            status = _with(record.status, news)
            if record.status != status:
                record = self._store.update_status(msgspec.structs.replace(record, status=status))
            return record
        except (Unavailable, Stale, NotFound) as error:
            self.trouble = str(error)  # told again by the watch or the next refresh
            return None

    def _own_record(self, news: dict[str, Any]) -> Record:
        """This node's object, made with ``news`` in its status if there is none."""
        assert self._store is not None
        try:
            return self._store.get("Node", self.node)
        except NotFound:
            try:
                # in a store that was made anew, as the others know it: they send by that
                status = _with(self._told_before(), news)
                return self._store.create(Record(kind="Node", name=self.node, status=status))
            except Exists:
                return self._store.get("Node", self.node)

    def _told_before(self) -> bytes:
        """The status that the others know this node by, if any."""
        own = self.snapshot.nodes.get(self.node)
        if own is None:
            return b"{}"
        addresses = () if own.declared else own.spec.addresses
        status = stored.NodeStatus(addresses=addresses, macs=own.macs, paths=own.paths)
        return msgspec.json.encode(status)

    def _take_in(self, record: Record) -> None:
        """Put a block or Borrow into the snapshot without listing again."""
        one, _ = stored.snapshot([record])
        blocks, borrows = self.snapshot.blocks | one.blocks, self.snapshot.borrows | one.borrows
        self.snapshot = msgspec.structs.replace(self.snapshot, blocks=blocks, borrows=borrows)

    def tell_offers(self, cidr: str, addresses: tuple[str, ...]) -> bool:
        """Say in the status of a block of this node which addresses others may borrow; whether it says so.

        What is read of the store afterwards includes it, and all that came before."""
        if self._store is None:
            return False
        try:
            record = self._store.get("Block", cidr)
            block = stored.snapshot([record])[0].blocks.get(cidr)
            if block is None or block.spec.node != self.node:
                return False
            status = msgspec.json.encode(BlockStatus(offers=addresses))
            self._take_in(self._store.update_status(msgspec.structs.replace(record, status=status)))
        except (Unavailable, Stale, NotFound) as error:
            self.trouble = str(error)  # told again at the next look
            return False
        return True

    def look_at_borrows(self) -> None:
        """Read who has borrowed what, as the store says now. Raises Unavailable."""
        records, _ = self._open().list("Borrow")
        found, _ = stored.snapshot(records, self.snapshot)
        self.snapshot = msgspec.structs.replace(self.snapshot, borrows=found.borrows)

    def borrow(self, address: str, cidr: str, network: str) -> Borrow | None:
        """Borrow an address of another node's block, if it is offered still; None when it isn't to be had.

        Raises Unavailable."""
        store = self._open()
        borrow = Borrow(address=address, spec=BorrowSpec(network=network, node=self.node))
        record = Record(kind="Borrow", name=address, spec=documents.spec_json(borrow))
        try:
            self._take_in(store.create(record))
        except Exists:
            return None
        reach("borrow.created")
        with contextlib.suppress(NotFound):
            self._take_in(store.get("Block", cidr))
            block = self.snapshot.blocks.get(cidr)
            if block is not None and block.spec.network == network and address in block.offers:
                self._database.save_snapshot(self.snapshot)
                reach("borrow.looked")
                return borrow
        self.give_back(address)
        return None

    def give_back(self, address: str) -> bool:
        """Remove this node's Borrow; whether it is gone."""
        if self._store is None:
            return False
        try:
            record = self._store.get("Borrow", address)
            if stored.snapshot([record])[0].borrows[address].spec.node != self.node:
                return False
            self._store.delete("Borrow", address, record.version)
        except NotFound:
            pass
        except (Unavailable, Stale, KeyError):
            return False
        left = {name: one for name, one in self.snapshot.borrows.items() if name != address}
        self.snapshot = msgspec.structs.replace(self.snapshot, borrows=left)
        return True

    def blocks(self, network: Network) -> list[str]:
        """CIDRs of this node's blocks of a network that are for its present kind of attachment."""
        mine = BlockSpec(network=network.name, node=self.node, attach=network.spec.attach)
        return [block.cidr for block in self.snapshot.blocks.values() if block.spec == mine]

    def usage(self, network: str) -> dict[str, int]:
        """Node → how many blocks of a network it has."""
        counts: dict[str, int] = {}
        for block in self.snapshot.blocks.values():
            if block.spec.network == network:
                counts[block.spec.node] = counts.get(block.spec.node, 0) + 1
        return counts

    def hold_block(self, network: Network, cidr: str) -> str:
        """Enter a block that this node was given elsewhere; why that can't be, "" when it is done."""
        assert self._store is not None
        spec = BlockSpec(network=network.name, node=self.node, attach=network.spec.attach)
        block = Block(cidr=cidr, spec=spec)
        try:
            self._take_in(
                self._store.create(Record(kind="Block", name=cidr, spec=documents.spec_json(block)))
            )
        except Exists:
            self._take_in(self._store.get("Block", cidr))
        self._database.save_snapshot(self.snapshot)
        held = self.snapshot.blocks.get(cidr)
        if held is None or held.spec.node != self.node:
            whose = f"node {held.spec.node}'s" if held is not None else "unreadable"
            return f"block {cidr}, this node's lease of Flannel's, is {whose} in the store"
        return ""

    def release(self, cidr: str) -> bool:
        """Give a block back that is still this node's; whether that is done. In an outage it is not."""
        assert self._store is not None
        try:
            record = self._store.get("Block", cidr)
            if stored.snapshot([record])[0].blocks[cidr].spec.node != self.node:
                return False
            self._store.delete("Block", cidr, record.version)
        except (Unavailable, Stale, NotFound, KeyError):
            return False
        return True

    def claim(
        self, network: Network, family: int, holding: str = "", avoid: Iterable[str] = ()
    ) -> Block | None:
        """Claim a block by creating it; None when none is left. Raises Unavailable in an outage.

        ``avoid``: prefixes that it may not overlap, besides other blocks."""
        try:
            store = self._open()
        except PodwayError as error:
            fix = "the node's own blocks are full, and a new one needs the store"
            raise Unavailable(f"no block can be claimed: {error.what}", error.where, fix) from error
        spec = BlockSpec(network=network.name, node=self.node, attach=network.spec.attach)
        taken = [*self.snapshot.blocks, *avoid]
        for cidr in candidates(network, taken, family, self.node, holding):
            block = Block(cidr=cidr, spec=spec)
            record = Record(kind="Block", name=cidr, spec=documents.spec_json(block))
            try:
                self._take_in(store.create(record))
            except Exists:
                self._take_in(store.get("Block", cidr))
                held = self.snapshot.blocks.get(cidr)
                if held is None or held.spec != spec:
                    continue
                # an earlier claim of ours, of which no answer came in time
            self.look_at_borrows()  # somebody may have borrowed of who had it before
            self._database.save_snapshot(self.snapshot)
            return block
        return None


def _with(status: bytes, news: dict[str, Any]) -> bytes:
    """A status with ``news`` in it, and the rest as it stands in the store."""
    return msgspec.json.encode(msgspec.structs.replace(stored.node_status(status), **news))

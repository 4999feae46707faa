"""One turn of what must run once a cluster: take or keep the lease, then do what is due. Synchronous.

Every write rests on what was read in the same turn, by the version of the object, so that one whose time was
taken by somebody else, and who doesn't know it yet, is refused.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from podway.controller import garbage, lease, reflectors
from podway.model import stored
from podway.model.bgp_specs import BGPTopologySpec
from podway.model.errors import Conflict
from podway.model.lending import BorrowSpec, block_status
from podway.model.resources import BlockSpec, Snapshot
from podway.store import Exists, NotFound, Record, Stale, Store

TERM = 15.0  # seconds
KIND, NAME = "Lease", "controller"
REMEMBERED = 8  # deeds


class Deed(msgspec.Struct, frozen=True):
    """Something that was done for the cluster; ``at`` in seconds since 1970, for people."""

    at: float
    what: str


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """The object: ``renewed`` and the deeds' times are the holder's clock, for people alone."""

    holder: str = ""
    renewed: float = 0.0
    term: float = TERM
    deeds: tuple[Deed, ...] = ()
    waits: tuple[str, ...] = ()  # nodes that a change of sessions waits for


class Seen(NamedTuple):
    """What the agent knows. ``bgp``: whether a network is carried by it; ``failing``: see ``reflectors``."""

    snapshot: Snapshot
    bgp: bool
    failing: frozenset[str]


def has_work(seen: Seen) -> bool:
    """Whether there is anything to decide for the cluster, by this look."""
    return seen.bgp or garbage.has_orphans(seen.snapshot)


class Controller:
    """Lives as long as the agent; ``turn`` on one thread at a time."""

    def __init__(self, node: str, clock: Callable[[], float] = time.monotonic, term: float = TERM) -> None:
        self._node = node
        self._clock = clock
        self._term = term
        self._state = lease.State()
        self._shapes = reflectors.State()
        self._orphans = garbage.State()
        #: as last read or written
        self.lease = Lease()

    @property
    def acts(self) -> bool:
        """Whether this agent acts for the cluster now."""
        return self._state.acts(self._clock())

    def turn(self, store: Store, seen: Seen) -> float:
        """Do what is due; when to come again, by the clock. Raises StoreUnavailable."""
        began = self._clock()
        record = self._read(store)
        found = None if record is None else lease.Found(self.lease.holder, record.version)
        self._state, wish, deadline = lease.read(self._state, self._node, found, self._term, began)
        if wish:
            record = self._write(store, record, began)
        if record is None or not self.acts:
            self._shapes, self._orphans = reflectors.State(), garbage.State()
            return deadline
        deeds, due = self._duties(store, seen)
        if deeds and self.acts:
            kept = (*self.lease.deeds, *(Deed(time.time(), what) for what in deeds))[-REMEMBERED:]
            self.lease = msgspec.structs.replace(self.lease, deeds=kept)
            self._write(store, record, self._clock())
        return min(deadline, due)

    def release(self, store: Store) -> None:
        """Let another take over at once, when this agent ends."""
        record = self._read(store)
        self._state = lease.refused(self._state)
        if record is not None and self.lease.holder == self._node:
            given_up = msgspec.structs.replace(self.lease, holder="")
            with contextlib.suppress(Conflict, NotFound):
                store.update_spec(msgspec.structs.replace(record, spec=msgspec.json.encode(given_up)))

    def _read(self, store: Store) -> Record | None:
        try:
            record = store.get(KIND, NAME)
        except NotFound:
            return None
        try:
            self.lease = msgspec.json.decode(record.spec, type=Lease)
        except msgspec.MsgspecError:
            self.lease = Lease(holder="(unreadable)")  # taken over like anybody's
        return record

    def _write(self, store: Store, record: Record | None, began: float) -> Record | None:
        """The object with this node as its holder; None when somebody else wrote first."""
        took = self.lease.holder != self._node
        deeds = self.lease.deeds + ((Deed(time.time(), f"{self._node} took over"),) if took else ())
        mine = msgspec.structs.replace(
            self.lease, holder=self._node, renewed=time.time(), term=self._term, deeds=deeds[-REMEMBERED:]
        )
        spec = msgspec.json.encode(mine)
        try:
            if record is None:
                written = store.create(Record(kind=KIND, name=NAME, spec=spec))
            else:
                written = store.update_spec(msgspec.structs.replace(record, spec=spec))
        except (Exists, Stale, NotFound):
            self._state = lease.refused(self._state)
            return None
        self.lease = mine
        self._state = lease.wrote(self._state, written.version, began, self._term)
        return written

    # duties ----------------------------------------------------------------------------------------

    def _duties(self, store: Store, seen: Seen) -> tuple[list[str], float]:
        """What was done, and when there is more to do."""
        if not seen.snapshot.synced:
            return [], float("inf")
        done, due = self._free(store, seen.snapshot)
        if seen.bgp:
            why, again = self._choose(store, seen)
            done += [why] if why else []
            due = min(due, again)
        return done, due

    def _choose(self, store: Store, seen: Seen) -> tuple[str, float]:
        try:
            record = store.get("BGPTopology", "default")
            topology = msgspec.json.decode(record.spec, type=BGPTopologySpec)
        except NotFound:
            record, topology = Record(kind="BGPTopology", name="default"), None
        except msgspec.MsgspecError:
            return "", float("inf")  # a later version's: status names it as unreadable
        snapshot = seen.snapshot
        found = reflectors.Seen(snapshot.nodes, snapshot.bgp.configuration, topology, seen.failing)
        step = reflectors.step(self._shapes, found, self._clock())
        self._shapes = step.state
        self.lease = msgspec.structs.replace(self.lease, waits=step.waits)
        if step.write is not None:
            new = msgspec.structs.replace(record, spec=msgspec.json.encode(step.write))
            try:
                store.create(new) if topology is None else store.update_spec(new)
            except (Exists, Stale, NotFound):
                return "", self._clock()
        return step.why, step.deadline if step.deadline is not None else float("inf")

    def _free(self, store: Store, snapshot: Snapshot) -> tuple[list[str], float]:
        step = garbage.step(self._orphans, snapshot, self._clock())
        self._orphans = step.state
        freed = [
            f"block {cidr} freed: its node {node} was deleted"
            for cidr, node in step.free.items()
            if _delete_orphan(store, snapshot, cidr)
        ]
        freed += [
            f"address {address} freed: node {node}, which had borrowed it, was deleted"
            for address, node in step.borrows.items()
            if _delete_orphaned_borrow(store, snapshot, address)
        ]
        return freed, step.deadline if step.deadline is not None else float("inf")


def _delete_orphan(store: Store, snapshot: Snapshot, cidr: str) -> bool:
    """Delete a block, if it is as it was seen, its node not there and nothing of it borrowed: asked of the
    store itself. Once it offers nothing nobody can borrow of it any more: see docs/borrowing.md."""
    with contextlib.suppress(NotFound, Stale):
        record = store.get("Block", cidr)
        if not _is_as_seen(record, snapshot.blocks[cidr].spec):
            return False
        if block_status(record.status).offers:
            record = store.update_status(msgspec.structs.replace(record, status=b"{}"))
        borrows = stored.snapshot(store.list("Borrow")[0])[0].borrows
        if not garbage.lent(cidr, borrows):
            return _delete_without_node(store, record, snapshot.blocks[cidr].spec.node)
    return False


def _delete_orphaned_borrow(store: Store, snapshot: Snapshot, address: str) -> bool:
    """Delete a Borrow likewise."""
    spec = snapshot.borrows[address].spec
    with contextlib.suppress(NotFound, Stale):
        record = store.get("Borrow", address)
        return _is_as_seen(record, spec) and _delete_without_node(store, record, spec.node)
    return False


def _is_as_seen(record: Record, seen: BlockSpec | BorrowSpec) -> bool:
    return bool(msgspec.json.decode(record.spec, type=type(seen)) == seen)


def _delete_without_node(store: Store, record: Record, node: str) -> bool:
    try:
        store.get("Node", node)
    except NotFound:
        store.delete(record.kind, record.name, record.version)
        return True
    return False

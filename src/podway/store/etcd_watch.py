"""A watch of etcd: one long answer, read without waiting as it comes."""

from __future__ import annotations

import builtins
import os
import select
import threading

import msgspec

from podway.store.etcd_client import (
    INVALID,
    PERMISSION,
    UNAUTHENTICATED,
    UNAVAILABLE,
    Client,
    Refused,
    StreamError,
)
from podway.store.etcd_records import Change, Header, Kv, Layout, after, encoded
from podway.store.http1 import Broken, Connection
from podway.store.protocol import Compacted, Event, Record, StoreUnavailable


class _Told(msgspec.Struct, frozen=True):
    """WatchResponse."""

    header: Header = Header()
    created: bool = False
    canceled: bool = False
    compact_revision: str = "0"
    cancel_reason: str = ""
    events: list[Change] = []


class _Message(msgspec.Struct, frozen=True):
    result: _Told = _Told()


class EtcdWatch:
    """See ``protocol.Watch``. Made by ``begin``; lives on when its store is closed."""

    def __init__(self, connection: Connection, layout: Layout, kinds: tuple[str, ...], where: str) -> None:
        self._connection = connection
        self._layout = layout
        self._kinds = kinds
        self._where = where
        self._revision = 0
        self._rest = b""
        self._told: builtins.list[_Told] = []
        self._lost = False
        self._failure: Exception | None = None
        self._guard = threading.Lock()
        # readable for what came with the beginning, and when the member is given up
        self._bell: int | None = os.eventfd(1, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._both = select.epoll()
        self._both.register(self._bell, select.EPOLLIN)
        self._both.register(connection.socket, select.EPOLLIN)

    @classmethod
    def begin(
        cls, client: Client, layout: Layout, kinds: tuple[str, ...], where: str, revision: int
    ) -> EtcdWatch:
        """Watch what comes after ``revision``. Raises Compacted, StoreUnavailable."""
        request = {
            "key": encoded(layout.root),
            "range_end": encoded(after(layout.root)),
            "start_revision": str(revision + 1),
            "prev_kv": True,
        }

        def reader(connection: Connection, deadline: float) -> EtcdWatch:
            made = cls(connection, layout, kinds, where)
            made._revision = revision
            try:
                made._await_creation(deadline)
            except BaseException:
                made.close()
                raise
            return made

        return client.stream("/v3/watch", {"create_request": request}, reader)

    def _await_creation(self, deadline: float) -> None:
        while not self._told:
            self._told = self._parse(self._connection.piece(deadline))
        first = self._told[0]
        if first.canceled and first.compact_revision == "0":
            raise _cancelled(first.cancel_reason)
        if first.header.cluster_id != self._where.partition(".")[2]:
            raise Compacted

    @property
    def token(self) -> str:
        """See the protocol."""
        return f"{self._where}:{self._revision}"

    def fileno(self) -> int:
        """See the protocol."""
        return self._both.fileno()

    def read(self) -> builtins.list[Event]:
        """See the protocol."""
        with self._guard:
            if self._bell is not None:
                try:
                    os.eventfd_read(self._bell)
                except BlockingIOError:
                    pass
        events: builtins.list[Event] = []
        if self._failure is None:
            try:
                told, self._told = self._told, []
                for one in [*told, *self._parse(self._connection.available())]:
                    events += self._events(one)
            except (Broken, Refused, Compacted) as error:
                self._failure = self._translated(error)
            if self._lost and self._failure is None:
                self._failure = StoreUnavailable(f"etcd at {self._connection.where} answers no more")
        if self._failure is not None and not events:
            raise self._failure
        if self._failure is not None:
            self._ring()  # what came before it is told first
        newest: dict[tuple[str, str], Event] = {}
        for event in events:
            newest.pop((event.record.kind, event.record.name), None)
            newest[event.record.kind, event.record.name] = event
        return builtins.list(newest.values())

    def _translated(self, error: Exception) -> Exception:
        if isinstance(error, Compacted):
            return error
        return StoreUnavailable(f"the watch of etcd at {self._connection.where} ended: {error}")

    def lost(self) -> None:
        """The member answers no calls: whoever reads shall look for another."""
        self._lost = True
        self._ring()

    def _ring(self) -> None:
        with self._guard:
            if self._bell is not None:
                os.eventfd_write(self._bell, 1)

    def close(self) -> None:
        """See the protocol."""
        with self._guard:
            if self._bell is not None:
                os.close(self._bell)
                self._bell = None
        self._both.close()
        self._connection.close()

    def _parse(self, data: bytes) -> builtins.list[_Told]:
        """Whole messages; they are lines. Raises Refused."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        found = []
        for line in filter(None, lines):
            try:
                if line.startswith(b'{"error"'):
                    raise msgspec.json.decode(line, type=StreamError).refusal()
                found.append(msgspec.json.decode(line, type=_Message).result)
            except msgspec.MsgspecError as error:
                raise Broken(f"a message that can't be read: {error}", sent=True) from None
        return found

    def _events(self, told: _Told) -> builtins.list[Event]:
        if told.compact_revision != "0":
            raise Compacted
        if told.canceled:
            raise Broken(told.cancel_reason or "it was cancelled", sent=True)
        found = []
        for change in told.events:
            deleted = change.type == "DELETE"
            record = self._record(change.prev_kv or change.kv if deleted else change.kv, change.kv)
            if record is not None and record.kind in self._kinds:
                found.append(Event(record, deleted))
            elif deleted and change.kv.key == encoded(self._layout.marker):
                raise Compacted  # the store was taken away: listing says so
        if told.events:
            self._revision = max(self._revision, int(told.events[-1].kv.mod_revision))
        return found

    def _record(self, state: Kv, change: Kv) -> Record | None:
        return self._layout.record(state, change.mod_revision)


def _cancelled(reason: str) -> Refused:
    """Why a watch is not begun, as the error of a call; etcd says it in words only."""
    for words, code in (("auth token", UNAUTHENTICATED), ("permission denied", PERMISSION)):
        if words in reason:
            return Refused(code, reason)
    return Refused(INVALID if "InvalidArgument" in reason else UNAVAILABLE, reason or "it was cancelled")

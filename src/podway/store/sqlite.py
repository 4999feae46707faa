"""``sqlite:PATH``: the embedded store of one machine. Several processes use the file at once.

Every write adds a row to a change log with a rising number; a token is such a number and the file's
own identity. The log is bounded: a watcher further behind than it reaches must list again.
"""

from __future__ import annotations

import builtins
import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator

from podway.store.inotify import FileWatch
from podway.store.protocol import (
    Compacted,
    Event,
    Exists,
    NotFound,
    Record,
    Stale,
    StoreUnavailable,
    check_name,
)
from podway.store.sqlite_file import BUSY, File

LOG_LENGTH = 10_000  # changes kept for watchers
TRIM_EVERY = 500

#: Seconds after a wake-up at which to look again; the last one repeats while somebody still writes.
LOOK_AGAIN = (0.001, 0.004, 0.016)


class SqliteStore:
    """See ``protocol.Store``. Calls are serialised; one instance may be used by several threads."""

    leases = False

    def __init__(self, path: str, create: bool) -> None:
        self._file = File(path, create)
        self._lock = threading.Lock()

    @property
    def identity(self) -> str:
        """See the protocol."""
        return self._file.identity

    def close(self) -> None:
        """See the protocol."""
        with self._lock:
            self._file.sql.close()

    @contextlib.contextmanager
    def _writing(self, kind: str, name: str) -> Iterator[sqlite3.Connection]:
        """One write transaction on an object."""
        check_name(kind, name)
        with self._lock, self._file.translated(), self._file.transaction("IMMEDIATE"):
            self._file.refuse_another()
            yield self._file.sql

    def get(self, kind: str, name: str) -> Record:
        """See the protocol."""
        check_name(kind, name)
        with self._lock, self._file.translated():
            self._file.refuse_another()
            return self._read(kind, name)

    def _read(self, kind: str, name: str) -> Record:
        row = self._file.sql.execute(
            "SELECT spec, status, version FROM object WHERE kind=? AND name=?", (kind, name)
        ).fetchone()
        if row is None:
            raise NotFound(f"there is no {kind} {name}")
        return Record(kind=kind, name=name, spec=row[0], status=row[1], version=str(row[2]))

    def list(self, *kinds: str) -> tuple[builtins.list[Record], str]:
        """See the protocol."""
        records: builtins.list[Record] = []
        with self._lock, self._file.translated(), self._file.transaction("DEFERRED"):
            self._file.refuse_another()
            for kind in kinds:
                rows = self._file.sql.execute(
                    "SELECT name, spec, status, version FROM object WHERE kind=? ORDER BY name", (kind,)
                )
                records += [
                    Record(kind=kind, name=name, spec=spec, status=status, version=str(version))
                    for name, spec, status, version in rows
                ]
            number = self._file.last_change()
        return records, f"{self._file.identity}:{number}"

    def create(self, record: Record) -> Record:
        """See the protocol."""
        with self._writing(record.kind, record.name) as sql:
            found = sql.execute(
                "SELECT 1 FROM object WHERE kind=? AND name=?", (record.kind, record.name)
            ).fetchone()
            if found is not None:
                raise Exists(f"{record.kind} {record.name} is there already")
            return self._write(record)

    def _write(self, record: Record) -> Record:
        """Log the change and store the object under the log's number, which is its version."""
        number = self._log(record, deleted=False)
        self._file.sql.execute(
            "INSERT OR REPLACE INTO object VALUES (?, ?, ?, ?, ?)",
            (record.kind, record.name, record.spec, record.status, number),
        )
        return Record(
            kind=record.kind,
            name=record.name,
            spec=record.spec,
            status=record.status,
            version=str(number),
        )

    def _log(self, record: Record, deleted: bool) -> int:
        row = (record.kind, record.name, deleted, record.spec, record.status)
        cursor = self._file.sql.execute(
            "INSERT INTO change (kind, name, deleted, spec, status) VALUES (?, ?, ?, ?, ?)", row
        )
        number = cursor.lastrowid or 0
        # by the number, not by this process's writes: commands that write once each fill the log too
        if number % TRIM_EVERY == 0:
            self._file.sql.execute("DELETE FROM change WHERE number <= ?", (number - LOG_LENGTH,))
        return number

    def update_spec(self, record: Record) -> Record:
        """See the protocol."""
        return self._update(record, spec=True)

    def update_status(self, record: Record) -> Record:
        """See the protocol."""
        return self._update(record, spec=False)

    def _update(self, record: Record, spec: bool) -> Record:
        with self._writing(record.kind, record.name):
            stored = self._read(record.kind, record.name)
            _same_version(stored, record.version)
            return self._write(
                Record(
                    kind=record.kind,
                    name=record.name,
                    spec=record.spec if spec else stored.spec,
                    status=stored.status if spec else record.status,
                )
            )

    def delete(self, kind: str, name: str, version: str | None = None) -> None:
        """See the protocol."""
        with self._writing(kind, name) as sql:
            stored = self._read(kind, name)
            if version is not None:
                _same_version(stored, version)
            sql.execute("DELETE FROM object WHERE kind=? AND name=?", (kind, name))
            self._log(stored, deleted=True)

    def watch(self, kinds: tuple[str, ...], token: str) -> SqliteWatch:
        """See the protocol."""
        identity, _, number = token.partition(":")
        if identity != self._file.identity or not number.isdigit():
            raise Compacted
        return SqliteWatch(self._file.path, kinds, int(number), identity)

    def heartbeat(self, node: str, anew: bool) -> None:
        """See the protocol. A file has no leases, and what serves one machine needs none."""


def _same_version(stored: Record, version: str) -> None:
    if stored.version != version:
        raise Stale(f"{stored.kind} {stored.name} was changed meanwhile", fix="read it again and retry")


class SqliteWatch:
    """See ``protocol.Watch``. Has a connection of its own, so that it may live on another thread.

    Woken by inotify on the write-ahead log. That comes before the commit is visible, by as much as the
    disk takes; so every wake-up is followed by others, until nobody is writing any more.
    """

    def __init__(self, path: str, kinds: tuple[str, ...], number: int, identity: str) -> None:
        self._kinds = kinds
        self._number = number
        self._looks = 0
        self._file = File(path)
        try:
            with self._file.translated():
                # the path may lead to another file by now
                if self._file.identity != identity:
                    raise Compacted
                # reading opens the write-ahead log, and it stays as long as a connection is open
                with self._file.transaction("DEFERRED"):
                    self._refuse_a_gap()
            self._wake = FileWatch(os.path.abspath(path) + "-wal")
            self._wake.arm(LOOK_AGAIN[0])  # what came between the token and this watch
        except OSError as error:
            self._file.sql.close()
            raise StoreUnavailable(f"the store can't be watched: {error.strerror}", path) from error
        except BaseException:
            self._file.sql.close()
            raise

    @property
    def token(self) -> str:
        """See the protocol."""
        return f"{self._file.identity}:{self._number}"

    def fileno(self) -> int:
        """See the protocol."""
        return self._wake.fileno()

    def close(self) -> None:
        """See the protocol."""
        self._wake.close()
        self._file.sql.close()

    def _refuse_a_gap(self) -> int:
        """The number of the newest change. Raises Compacted when some since the last are gone."""
        oldest = self._file.sql.execute("SELECT min(number) FROM change").fetchone()[0]
        last = self._file.last_change()
        if self._number > last or (self._number < last and (oldest is None or oldest > self._number + 1)):
            raise Compacted
        return last

    def read(self) -> builtins.list[Event]:
        """See the protocol."""
        written = self._wake.drain()
        self._looks = 0 if written else self._looks + 1
        with self._file.translated():
            self._file.refuse_another()
            settled = self._looks >= len(LOOK_AGAIN) and self._nobody_writes()
            rows = self._changes()
        if not settled:
            self._wake.arm(LOOK_AGAIN[min(self._looks, len(LOOK_AGAIN) - 1)])
        newest: dict[tuple[str, str], Event] = {}
        for number, kind, name, deleted, spec, status in rows:
            record = Record(kind=kind, name=name, spec=spec, status=status, version=str(number))
            newest.pop((kind, name), None)
            newest[kind, name] = Event(record, bool(deleted))
        return builtins.list(newest.values())

    def _changes(self) -> builtins.list[tuple[int, str, str, int, bytes, bytes]]:
        marks = ", ".join("?" * len(self._kinds))
        with self._file.transaction("DEFERRED"):
            last = self._refuse_a_gap()
            rows = self._file.sql.execute(
                "SELECT number, kind, name, deleted, spec, status FROM change "
                f"WHERE number > ? AND kind IN ({marks}) ORDER BY number",
                (self._number, *self._kinds),
            ).fetchall()
        self._number = last
        return rows

    def _nobody_writes(self) -> bool:
        """Whether all that was written to the log by now is also visible: the write lock is free."""
        self._file.wait_for_writers(0)
        try:
            with self._file.transaction("IMMEDIATE"):
                return True
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
            return False
        finally:
            self._file.wait_for_writers(BUSY)

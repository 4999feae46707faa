"""``sqlite:PATH``: the embedded store of one machine. Several processes use the file at once.

Every write adds a row to a change log with a rising number; a token is such a number and the file's
own identity. The log is bounded: a watcher further behind than it reaches must list again.
"""

from __future__ import annotations

import builtins
import contextlib
import os
import re
import sqlite3
import threading
import uuid
from collections.abc import Iterator

from podway.model.errors import InvalidInput
from podway.store.inotify import FileWatch
from podway.store.protocol import Compacted, Event, Exists, NotFound, Record, Stale, StoreUnavailable

FORMAT = 1
LOG_LENGTH = 10_000  # changes kept for watchers
TRIM_EVERY = 500
BUSY = 10.0  # seconds to wait for another process's write

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,252}")

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE object (
    kind TEXT NOT NULL, name TEXT NOT NULL, spec BLOB NOT NULL, status BLOB NOT NULL,
    version INTEGER NOT NULL, PRIMARY KEY (kind, name)) WITHOUT ROWID;
CREATE TABLE change (
    number INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, name TEXT NOT NULL,
    deleted INTEGER NOT NULL, spec BLOB NOT NULL, status BLOB NOT NULL);
"""


def _connect(path: str) -> sqlite3.Connection:
    """A connection in autocommit mode. Raises StoreUnavailable."""
    directory = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(directory):
        raise StoreUnavailable(f"there is no directory {directory}", path, "make it, or name another --store")
    with _translated(path):
        connection = sqlite3.connect(path, timeout=BUSY, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            _prepare(connection, path)
        except BaseException:
            connection.close()
            raise
        return connection


def _prepare(connection: sqlite3.Connection, path: str) -> None:
    """Make the tables in a new file; refuse a format of a later version."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > FORMAT:
        raise StoreUnavailable(
            f"its format is {version}, this version knows up to {FORMAT}", path, "use the newer podway"
        )
    if version == FORMAT:
        return
    connection.execute("BEGIN IMMEDIATE")
    if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
        for statement in filter(str.strip, _SCHEMA.split(";")):
            connection.execute(statement)
        connection.execute("INSERT INTO meta VALUES ('identity', ?)", (uuid.uuid4().hex[:12],))
        connection.execute(f"PRAGMA user_version={FORMAT}")
    connection.execute("COMMIT")


@contextlib.contextmanager
def _translated(path: str) -> Iterator[None]:
    """SQLite's errors as StoreUnavailable."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        fix = "check the disk and the file's mode"
        if "malformed" in str(error) or "not a database" in str(error):
            fix = "move the file aside and apply your documents again"
        raise StoreUnavailable(f"the store can't be used: {error}", path, fix) from error


def _check(kind: str, name: str) -> None:
    if not kind.isalnum() or not _NAME.fullmatch(name):
        raise InvalidInput(f"{kind!r} {name!r} is no name of an object", "store")


class SqliteStore:
    """See ``protocol.Store``. Calls are serialised; one instance may be used by several threads."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._connection = _connect(path)
        self._lock = threading.Lock()
        self._writes = 0
        with _translated(path):
            row = self._connection.execute("SELECT value FROM meta WHERE key='identity'").fetchone()
        self._identity: str = row[0]

    def close(self) -> None:
        """See the protocol."""
        with self._lock:
            self._connection.close()

    def get(self, kind: str, name: str) -> Record:
        """See the protocol."""
        _check(kind, name)
        with self._lock, _translated(self._path):
            return self._read(kind, name)

    def _read(self, kind: str, name: str) -> Record:
        row = self._connection.execute(
            "SELECT spec, status, version FROM object WHERE kind=? AND name=?", (kind, name)
        ).fetchone()
        if row is None:
            raise NotFound(f"there is no {kind} {name}")
        return Record(kind=kind, name=name, spec=row[0], status=row[1], version=str(row[2]))

    def list(self, kind: str) -> tuple[builtins.list[Record], str]:
        """See the protocol."""
        with self._lock, _translated(self._path), self._transaction("DEFERRED"):
            rows = self._connection.execute(
                "SELECT name, spec, status, version FROM object WHERE kind=? ORDER BY name", (kind,)
            ).fetchall()
            number = self._last()
        records = [
            Record(kind=kind, name=name, spec=spec, status=status, version=str(version))
            for name, spec, status, version in rows
        ]
        return records, f"{self._identity}:{number}"

    def _last(self) -> int:
        row = self._connection.execute("SELECT seq FROM sqlite_sequence WHERE name='change'").fetchone()
        return int(row[0]) if row else 0

    @contextlib.contextmanager
    def _transaction(self, mode: str) -> Iterator[None]:
        self._connection.execute(f"BEGIN {mode}")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def create(self, record: Record) -> Record:
        """See the protocol."""
        _check(record.kind, record.name)
        with self._lock, _translated(self._path), self._transaction("IMMEDIATE"):
            found = self._connection.execute(
                "SELECT 1 FROM object WHERE kind=? AND name=?", (record.kind, record.name)
            ).fetchone()
            if found is not None:
                raise Exists(f"{record.kind} {record.name} is there already")
            return self._write(record)

    def _write(self, record: Record) -> Record:
        """Log the change and store the object under the log's number, which is its version."""
        number = self._log(record, deleted=False)
        self._connection.execute(
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
        cursor = self._connection.execute(
            "INSERT INTO change (kind, name, deleted, spec, status) VALUES (?, ?, ?, ?, ?)", row
        )
        number = cursor.lastrowid or 0
        self._writes += 1
        if self._writes % TRIM_EVERY == 0:
            self._connection.execute("DELETE FROM change WHERE number <= ?", (number - LOG_LENGTH,))
        return number

    def update_spec(self, record: Record) -> Record:
        """See the protocol."""
        return self._update(record, spec=True)

    def update_status(self, record: Record) -> Record:
        """See the protocol."""
        return self._update(record, spec=False)

    def _update(self, record: Record, spec: bool) -> Record:
        _check(record.kind, record.name)
        with self._lock, _translated(self._path), self._transaction("IMMEDIATE"):
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
        _check(kind, name)
        with self._lock, _translated(self._path), self._transaction("IMMEDIATE"):
            stored = self._read(kind, name)
            if version is not None:
                _same_version(stored, version)
            self._connection.execute("DELETE FROM object WHERE kind=? AND name=?", (kind, name))
            self._log(stored, deleted=True)

    def watch(self, kinds: tuple[str, ...], token: str) -> SqliteWatch:
        """See the protocol."""
        identity, _, number = token.partition(":")
        if identity != self._identity or not number.isdigit():
            raise Compacted
        return SqliteWatch(self._path, kinds, int(number), self._identity)


def _same_version(stored: Record, version: str) -> None:
    if stored.version != version:
        raise Stale(f"{stored.kind} {stored.name} was changed meanwhile", fix="read it again and retry")


class SqliteWatch:
    """See ``protocol.Watch``. Has a connection of its own, so that it may live on another thread.

    Woken by inotify on the write-ahead log. The wake-up comes before the commit is visible, by as much
    as the disk takes: after one that showed nothing, ``read`` again.
    """

    def __init__(self, path: str, kinds: tuple[str, ...], number: int, identity: str) -> None:
        self._path = path
        self._kinds = kinds
        self._number = number
        self._identity = identity
        # the connection first: while it is open the write-ahead log stays
        self._connection = _connect(path)
        try:
            with _translated(path):
                self._refuse_a_gap()
            self._files = FileWatch(os.path.dirname(os.path.abspath(path)), os.path.basename(path))
        except BaseException:
            self._connection.close()
            raise

    def fileno(self) -> int:
        """See the protocol."""
        return self._files.fileno()

    def close(self) -> None:
        """See the protocol."""
        self._files.close()
        self._connection.close()

    def _refuse_a_gap(self) -> None:
        row = self._connection.execute("SELECT value FROM meta WHERE key='identity'").fetchone()
        oldest = self._connection.execute("SELECT min(number) FROM change").fetchone()[0]
        last = self._connection.execute("SELECT seq FROM sqlite_sequence WHERE name='change'").fetchone()
        behind = last is not None and self._number < last[0]
        if row[0] != self._identity or (behind and (oldest is None or oldest > self._number + 1)):
            raise Compacted

    def read(self) -> builtins.list[Event]:
        """See the protocol."""
        self._files.drain()
        marks = ", ".join("?" * len(self._kinds))
        with _translated(self._path):
            self._refuse_a_gap()
            rows = self._connection.execute(
                "SELECT number, kind, name, deleted, spec, status FROM change "
                f"WHERE number > ? AND kind IN ({marks}) ORDER BY number",
                (self._number, *self._kinds),
            ).fetchall()
        newest: dict[tuple[str, str], Event] = {}
        for number, kind, name, deleted, spec, status in rows:
            self._number = number
            record = Record(kind=kind, name=name, spec=spec, status=status, version=str(number))
            newest.pop((kind, name), None)
            newest[kind, name] = Event(record, bool(deleted))
        return builtins.list(newest.values())

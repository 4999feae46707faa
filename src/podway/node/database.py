"""The node's local database: what must survive a crash, written before the kernel is touched.

SQLite with a write-ahead log that is handed to the kernel at every commit and to the disk at a checkpoint:
what a killed process committed is there. A power cut may take the last commits, all of which are about what
it took too: links, rules and sysctls are gone with the boot, and that boot's endpoints are freed. A file
that can't be read is moved aside and said so; what it held is rebuilt from the kernel and the store.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from podway.model.dropin import Piece
from podway.model.errors import Unavailable
from podway.model.objects import Key
from podway.model.resources import Endpoint, Snapshot

FORMAT = 1
FILE = "node.db"
JOURNAL_LENGTH = 10_000
TRIM_EVERY = 200

_SCHEMA = """
CREATE TABLE endpoint (id TEXT PRIMARY KEY, state TEXT NOT NULL, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE piece (id TEXT PRIMARY KEY, state TEXT NOT NULL, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE cooling (address TEXT PRIMARY KEY, until REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE ledger (path TEXT PRIMARY KEY, found TEXT NOT NULL, written TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE journal (number INTEGER PRIMARY KEY, time REAL, kind TEXT, key TEXT, found TEXT,
    milliseconds REAL, actor TEXT);
CREATE TABLE snapshot (one INTEGER PRIMARY KEY CHECK (one = 1), value BLOB NOT NULL);
"""


class JournalEntry(NamedTuple):
    """``time`` in seconds since 1970; ``kind`` "repaired", "programmed", …; ``found``: what was there."""

    time: float
    kind: str
    key: str
    found: str
    milliseconds: float
    actor: str


class LedgerEntry(NamedTuple):
    """What a foreign object was before Podway wrote to it, and what was written."""

    found: str
    written: str


@contextlib.contextmanager
def _translated(path: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        fix = "check free space and permissions of the state directory"
        raise Unavailable(f"the node's database can't be used: {error}", path, fix) from error


class Database:
    """One process writes at a time, under the writer lock; readers need none.

    ``recovered`` says what happened to a file that could not be read, "" normally."""

    def __init__(self, connection: sqlite3.Connection, path: str, recovered: str = "") -> None:
        self._connection = connection
        self._path = path
        self.recovered = recovered
        self.fresh = False  # there was no file
        self._written = 0

    @classmethod
    def open(cls, state_dir: str, readonly: bool = False) -> Database:
        """Raises Unavailable when it can't be opened, written or, read-only, found."""
        path = os.path.join(state_dir, FILE)
        if readonly:
            if not os.path.exists(path):
                fix = "start podway agent, or name the right --node"
                raise Unavailable("nothing of Podway has run on this node yet", path, fix)
            with _translated(path):
                uri = f"file:{path}?mode=ro"
                connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
                connection.execute("SELECT count(*) FROM endpoint").fetchone()
                return cls(connection, path)
        fresh = not os.path.exists(path)
        try:
            opened = cls(_connect(path), path)
            opened.fresh = fresh
            return opened
        except sqlite3.DatabaseError as error:
            if not _is_corrupt(error):
                fix = "check free space and permissions of the state directory"
                raise Unavailable(f"the node's database can't be used: {error}", path, fix) from error
            aside = _move_aside(path)
            with _translated(path):
                return cls(_connect(path), path, f"{error}; moved to {aside}, rebuilt from kernel and store")

    @property
    def directory(self) -> str:
        """The node's state directory."""
        return os.path.dirname(self._path)

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def probe(self) -> None:
        """Raise Unavailable when nothing can be written now."""
        with self._commit():
            self._connection.execute("UPDATE snapshot SET one = 1")

    @contextlib.contextmanager
    def _commit(self) -> Iterator[None]:
        with _translated(self._path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    # endpoints -----------------------------------------------------------------------------------

    def endpoints(self) -> dict[str, tuple[Endpoint, str]]:
        """Id → (endpoint, "adding", "ready" or "deleting")."""
        with _translated(self._path):
            rows = self._connection.execute("SELECT id, value, state FROM endpoint").fetchall()
        return {name: (msgspec.json.decode(value, type=Endpoint), state) for name, value, state in rows}

    def begin_add(self, endpoint: Endpoint) -> None:
        """Known to whoever comes after a crash, before the kernel is touched."""
        with self._commit():
            row = (endpoint.id, "adding", msgspec.json.encode(endpoint))
            self._connection.execute("INSERT OR REPLACE INTO endpoint VALUES (?, ?, ?)", row)
            self._connection.executemany(
                "DELETE FROM cooling WHERE address = ?", [(a.partition("/")[0],) for a in endpoint.addresses]
            )

    def restore(self, endpoints: Iterable[Endpoint]) -> None:
        """Enter endpoints that stand already."""
        with self._commit():
            rows = [(one.id, "ready", msgspec.json.encode(one)) for one in endpoints]
            self._connection.executemany("INSERT OR REPLACE INTO endpoint VALUES (?, ?, ?)", rows)

    def change(self, endpoint: Endpoint) -> None:
        """What is known of an endpoint that stands."""
        with self._commit():
            row = (msgspec.json.encode(endpoint), endpoint.id)
            self._connection.execute("UPDATE endpoint SET value = ? WHERE id = ?", row)

    def finish_add(self, name: str) -> None:
        """Everything of it stands."""
        self._state(name, "ready")

    def begin_delete(self, name: str) -> None:
        """From now on it is to go, whatever happens."""
        self._state(name, "deleting")

    def _state(self, name: str, state: str) -> None:
        with self._commit():
            self._connection.execute("UPDATE endpoint SET state = ? WHERE id = ?", (state, name))

    def finish_delete(self, names: Iterable[str], cooling: dict[str, float]) -> None:
        """Nothing of them is left; their addresses cool down until the given times."""
        with self._commit():
            self._connection.executemany("DELETE FROM endpoint WHERE id = ?", [(name,) for name in names])
            rows = list(cooling.items())
            self._connection.executemany("INSERT OR REPLACE INTO cooling VALUES (?, ?)", rows)

    def forget_endpoints(self) -> None:
        """All of them, at an uninstall."""
        with self._commit():
            self._connection.execute("DELETE FROM endpoint")
            self._connection.execute("DELETE FROM piece")
            self._connection.execute("DELETE FROM cooling")

    def free_earlier_boot(self, boot_id: str) -> list[Endpoint]:
        """Forget endpoints of an earlier boot: their namespaces and links are gone. Returns them."""
        earlier = [e for e, _ in self.endpoints().values() if e.boot_id != boot_id]
        if earlier:
            self.finish_delete([endpoint.id for endpoint in earlier], {})
        return earlier

    def cooling(self) -> dict[str, float]:
        """Address → when it may be used again."""
        with _translated(self._path):
            return dict(self._connection.execute("SELECT address, until FROM cooling").fetchall())

    def forget_cooled(self, now: float) -> None:
        """Addresses that have cooled down need no row."""
        with self._commit():
            self._connection.execute("DELETE FROM cooling WHERE until <= ?", (now,))

    # pieces of drop-in plugins -------------------------------------------------------------------

    def pieces(self) -> dict[str, tuple[Piece, str]]:
        """Id → (piece, "adding", "ready" or "deleting")."""
        with _translated(self._path):
            rows = self._connection.execute("SELECT id, value, state FROM piece").fetchall()
        return {name: (msgspec.json.decode(value, type=Piece), state) for name, value, state in rows}

    def begin_piece(self, piece: Piece, state: str) -> None:
        """Known to whoever comes after a crash, before the kernel is touched."""
        with self._commit():
            row = (piece.id, state, msgspec.json.encode(piece))
            self._connection.execute("INSERT OR REPLACE INTO piece VALUES (?, ?, ?)", row)

    def piece_state(self, name: str, state: str) -> None:
        """ "ready" when everything of it stands, "deleting" when it is to go, whatever happens."""
        with self._commit():
            self._connection.execute("UPDATE piece SET state = ? WHERE id = ?", (state, name))

    def forget_pieces(self, names: Iterable[str]) -> None:
        """Nothing of them is left."""
        with self._commit():
            self._connection.executemany("DELETE FROM piece WHERE id = ?", [(name,) for name in names])

    # ledger, journal, snapshot -------------------------------------------------------------------

    def ledger(self) -> dict[str, LedgerEntry]:
        """Sysctl path, or key of an object on a foreign link, → what was found and written."""
        with _translated(self._path):
            rows = self._connection.execute("SELECT path, found, written FROM ledger").fetchall()
        return {path: LedgerEntry(found, written) for path, found, written in rows}

    def put_on_foreign(self) -> set[Key]:
        """Keys of the objects that Podway put on links of somebody else's."""
        return {tuple(path.split(" ")) for path in self.ledger() if " " in path}

    def ledger_put(self, path: str, found: str, written: str) -> None:
        """Remember the value found, before it is overwritten."""
        with self._commit():
            self._connection.execute("INSERT OR REPLACE INTO ledger VALUES (?, ?, ?)", (path, found, written))

    def ledger_remove(self, path: str) -> None:
        """The value found is back."""
        with self._commit():
            self._connection.execute("DELETE FROM ledger WHERE path = ?", (path,))

    def journal_add(self, entries: Iterable[JournalEntry]) -> None:
        """Append; the oldest beyond JOURNAL_LENGTH go."""
        with self._commit():
            self._connection.executemany("INSERT INTO journal VALUES (NULL, ?, ?, ?, ?, ?, ?)", list(entries))
            self._written += 1
            if self._written % TRIM_EVERY == 0:
                self._connection.execute(
                    "DELETE FROM journal WHERE number <= (SELECT max(number) FROM journal) - ?",
                    (JOURNAL_LENGTH,),
                )

    def journal(self, limit: int) -> list[JournalEntry]:
        """The newest ``limit`` entries, oldest first."""
        with _translated(self._path):
            rows = self._connection.execute(
                "SELECT time, kind, key, found, milliseconds, actor FROM journal "
                "ORDER BY number DESC LIMIT ?",
                (limit,),
            ).fetchall()
        return [JournalEntry(*row) for row in reversed(rows)]

    def save_snapshot(self, snapshot: Snapshot) -> None:
        """Keep the last synced snapshot for an outage."""
        with self._commit():
            row = (msgspec.json.encode(snapshot),)
            self._connection.execute("INSERT OR REPLACE INTO snapshot VALUES (1, ?)", row)

    def snapshot(self) -> Snapshot | None:
        """The last one saved; None when there is none, or one that this version can't read."""
        with _translated(self._path):
            row = self._connection.execute("SELECT value FROM snapshot").fetchone()
        if row is None:
            return None
        try:
            return msgspec.json.decode(row[0], type=Snapshot)
        except msgspec.MsgspecError:
            return None


def _connect(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > FORMAT:
            raise Unavailable(
                f"its format is {version}, this version knows up to {FORMAT}", path, "use the newer podway"
            )
        if version == 0:
            connection.execute("BEGIN IMMEDIATE")
            for statement in filter(str.strip, _SCHEMA.split(";")):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version={FORMAT}")
            connection.execute("COMMIT")
        elif connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok" or not _is_whole(connection):
            raise sqlite3.DatabaseError("database disk image is malformed")
        os.chmod(path, 0o600)
    except BaseException:
        connection.close()
        raise
    return connection


def _is_whole(connection: sqlite3.Connection) -> bool:
    found = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    return found >= {line.split()[2] for line in _SCHEMA.splitlines() if line.startswith("CREATE TABLE")}


def _is_corrupt(error: sqlite3.DatabaseError) -> bool:
    text = str(error)
    return "malformed" in text or "not a database" in text or "no such table" in text


def _move_aside(path: str) -> str:
    """Rename the file with its log; the first free number."""
    number = 1
    while os.path.exists(f"{path}.corrupt-{number}"):
        number += 1
    aside = f"{path}.corrupt-{number}"
    os.rename(path, aside)
    for suffix in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            os.rename(path + suffix, aside + suffix)
    return aside

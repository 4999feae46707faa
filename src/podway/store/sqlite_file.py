"""The file of a ``sqlite:`` store: opening, its format and migrations, its errors."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
import uuid
from collections.abc import Iterator

from podway.store.protocol import NoStore, StoreUnavailable

BUSY = 10.0  # seconds to wait for another process's write
OPENING_PAUSE = 0.01

#: Statements from each format to the next one. A released entry is never changed.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
        """CREATE TABLE object (
            kind TEXT NOT NULL, name TEXT NOT NULL, spec BLOB NOT NULL, status BLOB NOT NULL,
            version INTEGER NOT NULL, PRIMARY KEY (kind, name)) WITHOUT ROWID""",
        """CREATE TABLE change (
            number INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, name TEXT NOT NULL,
            deleted INTEGER NOT NULL, spec BLOB NOT NULL, status BLOB NOT NULL)""",
    ),
)


class File:
    """An open connection in autocommit mode, with the identity that tells this file from a later one."""

    def __init__(self, path: str, create: bool = True) -> None:
        """Raises StoreUnavailable, and NoStore when the file is not there and must not be made."""
        self.path = path
        directory = os.path.dirname(os.path.abspath(path))
        if not os.path.isdir(directory):
            fix = "make it, or name another --store"
            raise StoreUnavailable(f"there is no directory {directory}", path, fix)
        if not create and not os.path.exists(path):
            fix = "podway apply makes it, or name another --store"
            raise NoStore("there is no store yet", path, fix)
        with self.translated():
            self.sql = sqlite3.connect(path, timeout=BUSY, isolation_level=None, check_same_thread=False)
            try:
                self._open()
                self._inode = self._found_inode()
                row = self.sql.execute("SELECT value FROM meta WHERE key='identity'").fetchone()
                if row is None:
                    raise sqlite3.DatabaseError("malformed: it has no identity")
            except BaseException:
                self.sql.close()
                raise
        self.identity: str = row[0]

    def _open(self) -> None:
        # two processes that turn one new file to WAL at once: SQLite refuses one without waiting
        deadline = time.monotonic() + BUSY
        while True:
            try:
                self.sql.execute("PRAGMA journal_mode=WAL")
                break
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(OPENING_PAUSE)
        self.sql.execute("PRAGMA synchronous=FULL")
        if self._format() != len(MIGRATIONS):
            self._migrate()

    def _format(self) -> int:
        number: int = self.sql.execute("PRAGMA user_version").fetchone()[0]
        return number

    def _migrate(self) -> None:
        """Bring a new file or one of an earlier version to this format. Raises StoreUnavailable."""
        with self.transaction("IMMEDIATE"):
            found = self._format()
            if found > len(MIGRATIONS):
                what = f"its format is {found}, this version knows up to {len(MIGRATIONS)}"
                raise StoreUnavailable(what, self.path, "use the newer podway")
            if found == 0 and self.sql.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
                what = "it is a database of something else"
                raise StoreUnavailable(what, self.path, "name another --store")
            for statement in (one for step in MIGRATIONS[found:] for one in step):
                self.sql.execute(statement)
            if found == 0:
                self.sql.execute("INSERT INTO meta VALUES ('identity', ?)", (uuid.uuid4().hex[:12],))
            self.sql.execute(f"PRAGMA user_version={len(MIGRATIONS)}")

    def _found_inode(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def refuse_another(self) -> None:
        """Raises StoreUnavailable when the path no longer leads to the file that is open here.

        SQLite would go on with a file that was removed, and nobody else would see what it writes."""
        if self._found_inode() != self._inode:
            raise StoreUnavailable("the store's file was removed or replaced", self.path, "open it again")

    def wait_for_writers(self, seconds: float) -> None:
        """How long a transaction waits for that of another connection."""
        self.sql.execute(f"PRAGMA busy_timeout={int(seconds * 1000)}")

    @contextlib.contextmanager
    def transaction(self, mode: str) -> Iterator[None]:
        """BEGIN ``mode`` and COMMIT, or ROLLBACK."""
        self.sql.execute(f"BEGIN {mode}")
        try:
            yield
            self.sql.execute("COMMIT")
        except BaseException:
            if self.sql.in_transaction:
                self.sql.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def translated(self) -> Iterator[None]:
        """SQLite's errors as StoreUnavailable."""
        try:
            yield
        except (sqlite3.Error, sqlite3.Warning) as error:
            words = str(error)
            fix = "check the disk and the file's mode"
            if "malformed" in words or "not a database" in words:
                fix = "move the file aside and apply your documents again"
            elif "locked" in words:
                fix = "another process holds it: try again"
            raise StoreUnavailable(f"the store can't be used: {words}", self.path, fix) from error

    def last_change(self) -> int:
        """The number of the newest change."""
        row = self.sql.execute("SELECT seq FROM sqlite_sequence WHERE name='change'").fetchone()
        return int(row[0]) if row else 0

"""The embedded store keeps what every store keeps, and what a file brings with it: formats, damage,
several processes that open it at once, a full disk, a writer that is killed."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from conformance import *  # noqa: F403
from conformance import PROCESSES, names, record, together, until

from podway.model.errors import InvalidInput
from podway.store import Compacted, Store, StoreUnavailable, open_store, sqlite, sqlite_file


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    return f"sqlite:{tmp_path}/store.db"


@pytest.fixture
def compact(tmp_path: Path) -> Callable[[], None]:
    def forget() -> None:
        with contextlib.closing(sqlite3.connect(tmp_path / "store.db")) as connection:
            connection.execute("DELETE FROM change")
            connection.commit()

    return forget


@pytest.mark.parametrize("url", ["", "store.db", "/tmp/store.db", "mysql:x", "sqlite", "sqlite:"])
def test_an_unknown_url_is_an_input_error_that_says_what_there_is(url: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        open_store(url, create=True)
    assert "sqlite:" in caught.value.fix


def test_a_missing_directory_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="no directory"):
        open_store(f"sqlite:{tmp_path}/missing/store.db")
    assert not (tmp_path / "missing").exists()


@pytest.mark.parametrize("content", [b"garbage" * 1000, b"SQLite format 3\0" + b"\xff" * 4080])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "store.db").write_bytes(content)
    with pytest.raises(StoreUnavailable) as caught:
        open_store(f"sqlite:{tmp_path}/store.db")
    assert caught.value.where.endswith("store.db") and caught.value.fix
    assert (tmp_path / "store.db").read_bytes() == content


def test_a_directory_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable):
        open_store(f"sqlite:{tmp_path}")


def test_damage_while_it_is_open_is_unavailability(store: Store, tmp_path: Path) -> None:
    for number in range(200):
        store.create(record(f"n{number}", b'{"x":"%s"}' % (b"y" * 500)))
    store.close()
    with open(tmp_path / "store.db", "r+b") as file:
        file.seek(4096)
        file.write(os.urandom(os.path.getsize(tmp_path / "store.db") - 4096))
    with pytest.raises(StoreUnavailable):
        open_store(f"sqlite:{tmp_path}/store.db").list("Node")


def test_a_later_format_is_refused_untouched(store: Store, store_url: str, tmp_path: Path) -> None:
    store.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "store.db")) as connection:
        connection.execute("PRAGMA user_version=99")
    with pytest.raises(StoreUnavailable, match="99"):
        open_store(store_url, create=True)


def test_somebody_elses_database_is_refused_untouched(store_url: str, tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "store.db")) as connection:
        connection.execute("CREATE TABLE customers (name TEXT)")
    with pytest.raises(StoreUnavailable, match="something else"):
        open_store(store_url, create=True)
    with contextlib.closing(sqlite3.connect(tmp_path / "store.db")) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("customers",)]


def test_an_earlier_format_is_migrated_with_its_content(
    store: Store, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = store.create(record("a", b'{"x":1}'))
    later = (*sqlite_file.MIGRATIONS, ("ALTER TABLE object ADD COLUMN extra TEXT",))
    store.close()
    monkeypatch.setattr(sqlite_file, "MIGRATIONS", later)
    migrated = open_store(store_url, create=True)
    assert migrated.get("Node", "a") == kept
    migrated.close()


def _open_and_write(url: str, own: str) -> None:
    opened = open_store(url, create=True)
    opened.create(record(own))
    opened.close()


def test_a_new_file_can_be_opened_by_many_at_once(store_url: str) -> None:
    together(_open_and_write, [(store_url, f"n{number}") for number in range(6)])
    opened = open_store(store_url, create=True)
    assert len(opened.list("Node")[0]) == 6
    opened.close()


def test_a_long_lock_is_unavailability(
    store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "BUSY", 0.05)
    opened = open_store(store_url, create=True)
    with contextlib.closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="locked"):
            opened.create(record("a"))
        assert opened.list("Node")[0] == []
        other.execute("ROLLBACK")
    opened.create(record("a"))
    opened.close()


def test_a_full_disk_changes_nothing(store: Store) -> None:
    assert isinstance(store, sqlite.SqliteStore)
    store.create(record("a"))
    connection = store._file.sql
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(StoreUnavailable, match="full"):
        store.create(record("b", b'"' + b"x" * 100_000 + b'"'))
    connection.execute("PRAGMA max_page_count=1000000")
    assert [one.name for one in store.list("Node")[0]] == ["a"]
    store.create(record("b"))


def test_a_removed_file_is_unavailability_and_wakes_watches(store: Store, tmp_path: Path) -> None:
    """SQLite itself would go on writing to a file that nobody can see any more."""
    _, token = store.list("Node")
    watch = store.watch(("Node",), token)
    for file in tmp_path.iterdir():
        file.unlink()
    with pytest.raises(StoreUnavailable, match="removed"):
        until(watch, lambda events: False)
    watch.close()
    for call in (lambda: store.create(record("a")), lambda: store.list("Node")):
        with pytest.raises(StoreUnavailable, match="removed"):
            call()


def test_a_token_of_a_removed_file_is_foreign(store: Store, store_url: str, tmp_path: Path) -> None:
    _, token = store.list("Node")
    store.close()
    for file in tmp_path.iterdir():
        file.unlink()
    opened = open_store(store_url, create=True)
    with pytest.raises(Compacted):
        opened.watch(("Node",), token)
    opened.close()


def test_a_closed_store_is_unavailable(store: Store) -> None:
    store.close()
    with pytest.raises(StoreUnavailable):
        store.get("Node", "a")


def test_the_log_stays_bounded_whoever_writes(
    store: Store, store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commands that open the store for one write each fill the log as an agent does."""
    monkeypatch.setattr(sqlite, "LOG_LENGTH", 20)
    monkeypatch.setattr(sqlite, "TRIM_EVERY", 10)
    _, token = store.list("Node")
    for number in range(100):
        one = open_store(store_url, create=True)
        one.create(record(f"n{number}"))
        one.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "store.db")) as connection:
        assert connection.execute("SELECT count(*) FROM change").fetchone()[0] <= 30
    with pytest.raises(Compacted):
        store.watch(("Node",), token)


def test_changes_of_other_kinds_do_not_compact_a_quiet_watch(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "LOG_LENGTH", 20)
    monkeypatch.setattr(sqlite, "TRIM_EVERY", 10)
    _, token = store.list("Network")
    with contextlib.closing(store.watch(("Network",), token)) as watch:
        for number in range(100):
            store.create(record(f"n{number}"))
            assert watch.read() == []
        store.create(record("pods", kind="Network"))
        assert names(until(watch, bool)) == [("pods", False)]


def test_a_commit_that_becomes_visible_late_is_told(store: Store, tmp_path: Path) -> None:
    """The wake-up comes when the log is written; here the writer takes long between that and the end."""
    _, token = store.list("Node")
    with contextlib.closing(store.watch(("Node",), token)) as watch:
        connection = sqlite3.connect(tmp_path / "store.db", isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA cache_size=1")  # spills into the log before the commit
        connection.execute("BEGIN IMMEDIATE")
        for number in range(50):
            connection.execute(
                "INSERT INTO change (kind, name, deleted, spec, status) VALUES ('Node', ?, 0, ?, '{}')",
                (f"n{number}", b"x" * 4000),
            )
        timer = threading.Timer(0.3, connection.execute, ["COMMIT"])
        timer.start()
        assert len(until(watch, bool)) == 50
        timer.join()
        connection.close()


def test_a_watch_is_read_on_another_thread(store: Store) -> None:
    _, token = store.list("Node")
    watch = store.watch(("Node",), token)
    seen: list[tuple[str, bool]] = []
    reader = threading.Thread(target=lambda: seen.extend(names(until(watch, bool))))
    reader.start()
    store.create(record("a"))
    reader.join()
    watch.close()
    assert seen == [("a", False)]


def test_threads_share_a_store(store: Store) -> None:
    def write(own: int) -> None:
        for number in range(20):
            store.create(record(f"n{own}-{number}"))

    threads = [threading.Thread(target=write, args=(own,)) for own in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.list("Node")[0]) == 80


def _write_for_ever(url: str, own: str) -> None:
    opened = open_store(url, create=True)
    number = 0
    while True:
        made = opened.create(record(f"{own}-{number}", b'{"number":%d}' % number))
        opened.update_status(msgspec.structs.replace(made, status=b'{"number":%d}' % number))
        number += 1


def test_a_killed_writer_leaves_a_consistent_store(store: Store, store_url: str) -> None:
    """After SIGKILL at any moment, what the watch told is what is there, and each object is whole."""
    for attempt in range(5):
        listed, token = store.list("Node")
        mirror = {one.name: one for one in listed}
        with contextlib.closing(store.watch(("Node",), token)) as watch:
            writer = PROCESSES.Process(target=_write_for_ever, args=(store_url, f"a{attempt}"))
            writer.start()
            seen = until(watch, bool)
            assert writer.pid
            os.kill(writer.pid, signal.SIGKILL)
            writer.join()
            last = f"z{attempt}"
            store.create(record(last))
            while all(event.record.name != last for event in seen):
                seen += until(watch, bool)
        mirror |= {event.record.name: event.record for event in seen}
        found = store.list("Node")[0]
        assert sorted(mirror.values(), key=lambda one: one.name) == found
        assert all(one.status in (b"{}", one.spec) for one in found)

"""A store kept at hand: what is read never waits, what is written hardly, and outages heal by themselves."""

from __future__ import annotations

import contextlib
import itertools
import select
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from etcd_cluster import Cluster, resume
from podway.store import NoStore, Record, StoreUnavailable, open_store
from podway.store.mirror import WRITE, Late, Mirror
from podway.store.retry import FAR, FIRST, Retry

PATIENCE = 60.0
_numbers = itertools.count()


def record(name: str, spec: bytes = b"{}", kind: str = "Node") -> Record:
    return Record(kind=kind, name=name, spec=spec)


def eventually(mirror: Mirror, holds: Callable[[], bool]) -> None:
    """Until ``holds``, woken by the descriptor alone; StoreUnavailable counts as no."""
    end = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(StoreUnavailable):
            if holds():
                return
        assert select.select([mirror.fileno()], [], [], max(0.0, end - time.monotonic()))[0], "not woken"
        mirror.drain()


def names(mirror: Mirror, kind: str = "Node") -> list[str]:
    return [one.name for one in mirror.session().list(kind)[0]]


def trouble(mirror: Mirror) -> str:
    try:
        mirror.session().list("Node")
    except StoreUnavailable as error:
        return str(error)
    return ""


@pytest.fixture
def own_etcd(tmp_path: Path) -> Iterator[Cluster]:
    """A member of one's own, to stop and to kill."""
    cluster = Cluster.on_loopback(tmp_path / "etcd")
    cluster.start()
    yield cluster
    for member in cluster.members:
        resume(member)
    cluster.stop()


@contextlib.contextmanager
def mirrored(url: str, node: str = "me") -> Iterator[Mirror]:
    mirror = Mirror(url, node)
    mirror.start()
    mirror.wait(PATIENCE)
    try:
        yield mirror
    finally:
        mirror.stop()


@pytest.fixture(params=["sqlite", "etcd"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:{tmp_path}/store.db"
    cluster: Cluster = request.getfixturevalue("etcd")
    return cluster.url(f"mirror{next(_numbers)}")


def test_others_changes_arrive_by_themselves(store_url: str) -> None:
    with contextlib.closing(open_store(store_url, create=True)) as store, mirrored(store_url) as mirror:
        assert names(mirror) == []
        made = store.create(record("a"))
        eventually(mirror, lambda: names(mirror) == ["a"])
        assert mirror.session().get("Node", "a") == made
        store.delete("Node", "a")
        eventually(mirror, lambda: names(mirror) == [])


def test_what_one_writes_is_read_with_all_that_came_before(store_url: str) -> None:
    """The write returns when the watch has told it: the order of the store holds for the reader."""
    with contextlib.closing(open_store(store_url, create=True)) as store, mirrored(store_url) as mirror:
        session = mirror.session()
        for number in range(20):
            store.create(record(f"other{number}"))
            try:
                session.create(record(f"own{number}"))
            except Late:
                eventually(mirror, lambda number=number: f"own{number}" in names(mirror))  # type: ignore[misc]
            assert {f"own{number}", f"other{number}"} <= set(names(mirror))


def test_a_store_that_is_made_later_is_found(store_url: str) -> None:
    with mirrored(store_url) as mirror:
        with pytest.raises(NoStore):
            mirror.session().list("Node")
        with contextlib.closing(open_store(store_url, create=True)) as store:
            store.create(record("a"))
        eventually(mirror, lambda: names(mirror) == ["a"])


def test_no_change_no_wake_up(store_url: str) -> None:
    with contextlib.closing(open_store(store_url, create=True)), mirrored(store_url) as mirror:
        eventually(mirror, lambda: not trouble(mirror))
        mirror.drain()
        # the coming itself may be told only now, and the heartbeat's own object comes once
        woken = 0
        while select.select([mirror.fileno()], [], [], 1.0)[0]:
            mirror.drain()
            woken += 1
            assert woken <= 3


def test_a_store_that_hangs_keeps_nobody_waiting(own_etcd: Cluster) -> None:
    """Reads answer from memory, a write returns at once or nearly, and is done when the store goes on."""
    url = own_etcd.url("hangs")
    with contextlib.closing(open_store(url, create=True)) as store:
        store.create(record("a"))
    with mirrored(url) as mirror:
        eventually(mirror, lambda: names(mirror) == ["a"])
        own_etcd.members[0].signal(signal.SIGSTOP)
        began = time.monotonic()
        session = mirror.session()
        with pytest.raises(StoreUnavailable):
            session.create(record("b"))
        with pytest.raises(StoreUnavailable):
            session.create(record("c"))  # and only the first is waited for
        assert time.monotonic() - began < 10 * WRITE
        eventually(mirror, lambda: trouble(mirror) != "")
        assert "no answer in time" in trouble(mirror)
        resume(own_etcd.members[0])
        eventually(mirror, lambda: "a" in names(mirror))


def test_after_an_outage_it_goes_on_from_where_it_was(own_etcd: Cluster) -> None:
    url = own_etcd.url("outage")
    with contextlib.closing(open_store(url, create=True)) as store:
        store.create(record("a"))
    with mirrored(url) as mirror:
        eventually(mirror, lambda: names(mirror) == ["a"])
        own_etcd.stop()
        eventually(mirror, lambda: trouble(mirror) != "")
        own_etcd.start()
        with contextlib.closing(open_store(url)) as store:
            store.create(record("b"))
        eventually(mirror, lambda: names(mirror) == ["a", "b"])


def test_changes_that_were_compacted_meanwhile_are_listed(own_etcd: Cluster) -> None:
    url = own_etcd.url("compacted")
    with contextlib.closing(open_store(url, create=True)) as store:
        store.create(record("a"))
    with mirrored(url) as mirror:
        eventually(mirror, lambda: names(mirror) == ["a"])
        own_etcd.members[0].kill()
        eventually(mirror, lambda: trouble(mirror) != "")
        own_etcd.start()
        with contextlib.closing(open_store(url)) as store:
            store.delete("Node", "a")
            store.create(record("b"))
        own_etcd.compact()
        eventually(mirror, lambda: names(mirror) == ["b"])


def test_an_etcd_that_was_wiped_is_no_empty_store(own_etcd: Cluster, tmp_path: Path) -> None:
    """What was known stays in force: nobody said that it is gone."""
    url = own_etcd.url("wiped")
    with contextlib.closing(open_store(url, create=True)) as store:
        store.create(record("a"))
    with mirrored(url) as mirror:
        eventually(mirror, lambda: names(mirror) == ["a"])
        own_etcd.stop()
        shutil.rmtree(tmp_path / "etcd" / "m0")
        own_etcd.start()
        eventually(mirror, lambda: "no store" in trouble(mirror))
        with pytest.raises(NoStore):
            mirror.session().create(record("b"))


def test_who_says_no_more_that_it_lives_goes_by_itself(
    etcd: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("podway.store.etcd.LIFETIME", 2)
    monkeypatch.setattr("podway.store.mirror.BEAT", 0.5)
    url = etcd.url(f"mirror{next(_numbers)}")
    with contextlib.closing(open_store(url, create=True)), mirrored(url, "a") as first:
        with mirrored(url, "b"):
            eventually(first, lambda: first.alive == {"a", "b"})
        eventually(first, lambda: first.alive == {"a"})
        with contextlib.closing(open_store(url)) as store:
            store.delete("Alive", "a")  # whoever did that: it says again that it lives
        eventually(first, lambda: first.alive == {"a"})


def test_a_file_keeps_no_leases(tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path}/store.db"
    with contextlib.closing(open_store(url, create=True)), mirrored(url) as mirror:
        assert mirror.alive is None


def test_records_of_every_kind_of_garbage_are_handed_on(own_etcd: Cluster) -> None:
    """What is no JSON, or no key of ours, is told apart by whoever reads it, and hides nothing else."""
    url = own_etcd.url("garbage")
    with contextlib.closing(open_store(url, create=True)) as store:
        store.create(record("a"))
        own_etcd.put("garbage/Node/b", b"\xff\xfe no json")
        own_etcd.put("garbage/Node/c", b"[1, 2]")
        own_etcd.put(b"garbage/Node/\xff", b"{}")
        own_etcd.put("garbage/stray", b"?")
        found, _ = store.list("Node")
        assert [one.name for one in found] == ["a", "b", "c", "\\xff"]
        assert found[1].spec == b"\xff\xfe no json" and found[1].status == b"{}"
        # and can be mended
        store.update_spec(msgspec.structs.replace(found[1], spec=b'{"x":1}'))
        assert store.get("Node", "b").spec == b'{"x":1}'


def test_fields_of_a_later_version_are_kept(etcd: Cluster) -> None:
    prefix = f"mirror{next(_numbers)}"
    with contextlib.closing(open_store(etcd.url(prefix), create=True)) as store:
        etcd.put(f"{prefix}/Node/a", b'{"spec":{"new":1},"later":[1],"status":{}}')
        made = store.get("Node", "a")
        store.update_status(msgspec.structs.replace(made, status=b'{"y":2}'))
        (value,) = etcd.values(f"{prefix}/Node/")
    assert all(part in value for part in (b'"later":[1]', b'{"new":1}', b'"y":2'))


def test_waits_grow_and_are_spread() -> None:
    """A fleet that lost its store at one moment doesn't come back at one moment."""
    retry = Retry()
    longest = []
    for _ in range(20):
        retry = retry.failed()
        assert 0 < retry.delay(FAR, 0.0) <= 0.2 * FAR
        longest.append(retry.delay(FAR, 1.0))
    assert longest[0] == FIRST and longest == sorted(longest) and longest[-1] == FAR

"""What every store keeps, whatever is behind it.

A backend's test module gives a fixture ``store_url`` (str: a fresh, empty store that several processes
can open at once) and a fixture ``compact`` (makes the store forget the changes up to now), and imports
everything from here.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import select
import time
from collections.abc import Callable, Iterator

import msgspec
import pytest

from podway.model.errors import InvalidInput
from podway.store import Compacted, Event, Exists, NotFound, Record, Stale, Store, Watch, open_store

PATIENCE = 20.0  # seconds; a bound for a broken store, not a measure
PROCESSES = multiprocessing.get_context("spawn")


def record(name: str, spec: bytes = b"{}", kind: str = "Node") -> Record:
    return Record(kind=kind, name=name, spec=spec)


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    opened = open_store(store_url, create=True)
    yield opened
    opened.close()


def until(watch: Watch, done: Callable[[list[Event]], bool]) -> list[Event]:
    """Events until ``done`` says so, woken by the descriptor alone."""
    seen: list[Event] = []
    end = time.monotonic() + PATIENCE
    while not done(seen):
        woken, _, _ = select.select([watch], [], [], max(0.0, end - time.monotonic()))
        assert woken, f"not woken; seen so far: {seen}"
        seen += watch.read()
    return seen


def names(events: list[Event]) -> list[tuple[str, bool]]:
    return [(event.record.name, event.deleted) for event in events]


# one object ----------------------------------------------------------------------------------------


def test_what_is_created_can_be_read(store: Store) -> None:
    made = store.create(Record(kind="Node", name="a", spec=b'{"x":1}', status=b'{"y":2}'))
    assert made.version
    assert store.get("Node", "a") == made
    assert made.spec == b'{"x":1}' and made.status == b'{"y":2}'


def test_a_name_is_created_once_for_each_kind(store: Store) -> None:
    store.create(record("a"))
    store.create(record("a", kind="Network"))
    with pytest.raises(Exists):
        store.create(record("a", b'{"x":1}'))
    assert store.get("Node", "a").spec == b"{}"


def test_names_may_be_prefixes_of_both_families(store: Store) -> None:
    for name in ("10.244.0.0/24", "fd00:10:244::/64"):
        store.create(record(name, kind="Block"))
    assert [one.name for one in store.list("Block")[0]] == ["10.244.0.0/24", "fd00:10:244::/64"]


@pytest.mark.parametrize("name", ["", " ", "a b", "/a", "a\n", "ä", "x" * 300])
def test_an_illegal_name_is_refused(store: Store, name: str) -> None:
    with pytest.raises(InvalidInput):
        store.create(record(name))


def test_what_is_not_there_is_not_found(store: Store) -> None:
    with pytest.raises(NotFound):
        store.get("Node", "a")
    with pytest.raises(NotFound):
        store.update_spec(record("a"))
    with pytest.raises(NotFound):
        store.update_status(record("a"))
    with pytest.raises(NotFound):
        store.delete("Node", "a")


def test_spec_and_status_are_written_apart(store: Store) -> None:
    made = store.create(record("a"))
    changed = msgspec.structs.replace(made, spec=b'{"x":1}', status=b'{"lost":1}')
    changed = store.update_spec(changed)
    assert (changed.spec, changed.status) == (b'{"x":1}', b"{}")
    changed = store.update_status(msgspec.structs.replace(changed, spec=b"{}", status=b'{"y":2}'))
    assert (changed.spec, changed.status) == (b'{"x":1}', b'{"y":2}')
    assert store.get("Node", "a") == changed


def test_an_old_version_changes_nothing(store: Store) -> None:
    old = store.create(record("a"))
    new = store.update_spec(msgspec.structs.replace(old, spec=b'{"x":1}'))
    assert new.version != old.version
    for write in (store.update_spec, store.update_status):
        with pytest.raises(Stale):
            write(msgspec.structs.replace(old, spec=b'{"x":2}', status=b'{"x":2}'))
    with pytest.raises(Stale):
        store.delete("Node", "a", old.version)
    assert store.get("Node", "a") == new
    store.delete("Node", "a", new.version)
    with pytest.raises(NotFound):
        store.get("Node", "a")


def test_a_version_does_not_come_back_with_a_name(store: Store) -> None:
    old = store.create(record("a"))
    store.delete("Node", "a")
    store.create(record("a"))
    with pytest.raises(Stale):
        store.update_spec(old)


def test_lists_are_of_one_kind_and_by_name(store: Store) -> None:
    for name in ("b", "c", "a"):
        store.create(record(name))
    store.create(record("d", kind="Network"))
    assert [one.name for one in store.list("Node")[0]] == ["a", "b", "c"]
    assert store.list("Lease")[0] == []


# watching ------------------------------------------------------------------------------------------


def test_a_watch_tells_what_came_after_its_token(store: Store) -> None:
    store.create(record("before"))
    _, token = store.list("Node")
    store.create(record("between"))
    with contextlib.closing(store.watch(("Node",), token)) as watch:
        made = store.create(record("after"))
        seen = until(watch, lambda events: len(events) >= 2)
    assert names(seen) == [("between", False), ("after", False)]
    assert seen[1].record == made


def test_a_watch_is_of_its_kinds(store: Store) -> None:
    _, token = store.list("Node")
    with contextlib.closing(store.watch(("Node", "Block"), token)) as watch:
        store.create(record("a", kind="Network"))
        store.create(record("b", kind="Block"))
        store.create(record("c"))
        seen = until(watch, lambda events: len(events) >= 2)
    assert names(seen) == [("b", False), ("c", False)]


def test_a_token_of_one_kind_serves_a_watch_of_several(store: Store) -> None:
    """An agent lists kind after kind and goes on from the first token."""
    _, token = store.list("Network")
    store.create(record("a"))
    _, later = store.list("Node")
    assert later != token
    with contextlib.closing(store.watch(("Network", "Node"), token)) as watch:
        assert names(until(watch, bool)) == [("a", False)]


def test_a_deletion_is_told_with_the_last_state(store: Store) -> None:
    store.create(record("a", b'{"x":1}'))
    _, token = store.list("Node")
    with contextlib.closing(store.watch(("Node",), token)) as watch:
        store.delete("Node", "a")
        (event,) = until(watch, bool)
    assert event.deleted and event.record.spec == b'{"x":1}'


def test_a_deletion_before_the_watch_is_not_lost(store: Store) -> None:
    store.create(record("a"))
    _, token = store.list("Node")
    store.delete("Node", "a")
    with contextlib.closing(store.watch(("Node",), token)) as watch:
        assert names(until(watch, bool)) == [("a", True)]


def test_created_again_is_not_deleted(store: Store) -> None:
    store.create(record("a"))
    _, token = store.list("Node")
    store.delete("Node", "a")
    made = store.create(record("a", b'{"x":2}'))
    with contextlib.closing(store.watch(("Node",), token)) as watch:
        seen = until(watch, lambda events: bool(events) and not events[-1].deleted)
    assert seen[-1].record == made


def test_reading_never_waits(store: Store) -> None:
    _, token = store.list("Node")
    with contextlib.closing(store.watch(("Node",), token)) as watch:
        assert watch.read() == []
        assert watch.read() == []


def test_an_unchanged_watch_falls_silent(store: Store) -> None:
    """No polling: a watch that has told everything is not readable until something changes."""
    _, token = store.list("Node")
    with contextlib.closing(store.watch(("Node",), token)) as watch:
        store.create(record("a"))
        until(watch, bool)
        end = time.monotonic() + PATIENCE
        while select.select([watch], [], [], 1.0)[0]:
            assert watch.read() == []
            assert time.monotonic() < end, "it never falls silent"


def test_a_watch_outlives_its_store(store_url: str) -> None:
    first, second = open_store(store_url, create=True), open_store(store_url, create=True)
    _, token = first.list("Node")
    with contextlib.closing(first.watch(("Node",), token)) as watch:
        first.close()
        second.create(record("a"))
        assert names(until(watch, bool)) == [("a", False)]
    second.close()


def test_a_compacted_token_must_list_again(store: Store, compact: Callable[[], None]) -> None:
    _, token = store.list("Node")
    store.create(record("a"))
    compact()
    with pytest.raises(Compacted):
        with contextlib.closing(store.watch(("Node",), token)) as watch:
            until(watch, lambda events: False)
    found, token = store.list("Node")
    assert [one.name for one in found] == ["a"]
    with contextlib.closing(store.watch(("Node",), token)) as watch:
        store.create(record("b"))
        assert names(until(watch, bool)) == [("b", False)]


def test_a_watch_that_lags_behind_a_compaction_hides_no_gap(
    store: Store, compact: Callable[[], None]
) -> None:
    """It tells what was forgotten meanwhile, or that it can't."""
    _, token = store.list("Node")
    with contextlib.closing(store.watch(("Node",), token)) as watch:
        store.create(record("a"))
        compact()
        try:
            assert names(until(watch, bool)) == [("a", False)]
        except Compacted:
            pass


def test_another_watch_goes_on_where_one_has_got_to(store: Store) -> None:
    _, token = store.list("Node")
    with contextlib.closing(store.watch(("Node",), token)) as watch:
        assert watch.token == token
        store.create(record("a"))
        until(watch, bool)
        later = watch.token
    store.create(record("b"))
    with contextlib.closing(store.watch(("Node",), later)) as watch:
        assert names(until(watch, bool)) == [("b", False)]


@pytest.mark.parametrize("token", ["", "0", "x:y", "elsewhere:1"])
def test_a_foreign_token_must_list_again(store: Store, token: str) -> None:
    with pytest.raises(Compacted):
        store.watch(("Node",), token)


# several processes ---------------------------------------------------------------------------------


def _count_up(url: str, times: int) -> None:
    opened = open_store(url, create=True)
    for _ in range(times):
        while True:
            found = opened.get("Node", "counter")
            count = msgspec.json.decode(found.spec)["count"] + 1
            try:
                opened.update_spec(msgspec.structs.replace(found, spec=b'{"count":%d}' % count))
                break
            except Stale:
                pass
    opened.close()


def _claim(url: str, own: str, count: int) -> None:
    opened = open_store(url, create=True)
    for number in range(count):
        try:
            opened.create(record(f"10.0.{number}.0/24", b'{"owner":"%s"}' % own.encode(), "Block"))
            opened.create(record(f"{own}-{number}", kind="Claim"))
        except Exists:
            pass
    opened.close()


def _churn(url: str, own: str, rounds: int) -> None:
    opened = open_store(url, create=True)
    for number in range(rounds):
        made = opened.create(record(f"{own}-{number}"))
        made = opened.update_spec(msgspec.structs.replace(made, spec=b'{"round":%d}' % number))
        if number % 2:
            opened.delete("Node", made.name, made.version)
    opened.create(record(f"{own}-end"))
    opened.close()


def together(work: Callable[..., None], arguments: list[tuple[object, ...]]) -> None:
    """Run in a process each; all must end well."""
    started = [PROCESSES.Process(target=work, args=one) for one in arguments]
    for process in started:
        process.start()
    for process in started:
        process.join(PATIENCE * 3)
    assert [process.exitcode for process in started] == [0] * len(started)


def test_no_update_of_several_processes_is_lost(store: Store, store_url: str) -> None:
    store.create(record("counter", b'{"count":0}'))
    together(_count_up, [(store_url, 25)] * 4)
    assert store.get("Node", "counter").spec == b'{"count":100}'


def test_each_claim_has_one_owner(store: Store, store_url: str) -> None:
    together(_claim, [(store_url, own, 20) for own in "abcd"])
    blocks, _ = store.list("Block")
    claims, _ = store.list("Claim")
    owned = {f"{msgspec.json.decode(b.spec)['owner']}-{b.name.split('.')[2]}" for b in blocks}
    assert len(blocks) == len(claims) == 20
    assert owned == {claim.name for claim in claims}


def test_a_watch_ends_with_the_final_state_of_everything(store: Store, store_url: str) -> None:
    """Whatever several processes do at once: who listed once and then follows ends where a list does."""
    owners = ["a", "b", "c"]
    listed, token = store.list("Node")
    mirror = {one.name: one for one in listed}
    with contextlib.closing(store.watch(("Node",), token)) as watch:
        started = [PROCESSES.Process(target=_churn, args=(store_url, own, 30)) for own in owners]
        for process in started:
            process.start()
        ends = {f"{own}-end" for own in owners}
        while not ends <= mirror.keys():
            for event in until(watch, bool):
                if event.deleted:
                    mirror.pop(event.record.name, None)
                else:
                    mirror[event.record.name] = event.record
        for process in started:
            process.join(PATIENCE)
    assert sorted(mirror.values(), key=lambda one: one.name) == store.list("Node")[0]

"""Three etcd members on machines of their own: killed, stopped and cut off under load.

Each is in a network namespace, joined to this one by a bridge. "Cut off" leaves a member's clients in
place and drops what its peers say: it still takes calls, and can answer none.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from conformance import PROCESSES, record

from etcd_cluster import Cluster, Member, resume
from podway.kernel import namespaces
from podway.store import Event, Exists, Record, Stale, Store, StoreUnavailable, open_store

pytestmark = pytest.mark.kernel

PATIENCE = 60.0
CUT = "\n".join(
    [
        "table inet cut {",
        "  chain in { type filter hook input priority 0; tcp dport 2380 drop; tcp sport 2380 drop; }",
        "  chain out { type filter hook output priority 0; tcp dport 2380 drop; tcp sport 2380 drop; }",
        "}",
    ]
)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


class Machines:
    """The namespaces of the members."""

    def __init__(self, directory: Path) -> None:
        self.fds = [namespaces.create() for _ in range(3)]
        _run("ip", "link", "set", "lo", "up")
        _run("ip", "link", "add", "br0", "type", "bridge")
        _run("ip", "address", "add", "192.0.2.1/24", "dev", "br0")
        _run("ip", "link", "set", "br0", "up")
        hosts = [f"192.0.2.{11 + number}" for number in range(3)]
        cluster = ",".join(f"m{n}=http://{host}:2380" for n, host in enumerate(hosts))
        members = []
        for number, (fd, host) in enumerate(zip(self.fds, hosts, strict=True)):
            path = f"/proc/{os.getpid()}/fd/{fd}"
            _run("ip", "link", "add", f"p{number}", "type", "veth", "peer", "name", "eth0", "netns", path)
            _run("ip", "link", "set", f"p{number}", "master", "br0", "up")
            with namespaces.entered(fd):
                _run("ip", "link", "set", "lo", "up")
                _run("ip", "address", "add", f"{host}/24", "dev", "eth0")
                _run("ip", "link", "set", "eth0", "up")
            client, peer = f"http://{host}:2379", f"http://{host}:2380"
            members.append(Member(directory, f"m{number}", client, peer, cluster, namespace=fd))
        self.etcd = Cluster(members)

    def cut_off(self, number: int) -> None:
        with namespaces.entered(self.fds[number]):
            _run("nft", CUT)

    def rejoin(self, number: int) -> None:
        with namespaces.entered(self.fds[number]):
            _run("nft", "delete table inet cut")

    def unplug(self, number: int) -> None:
        _run("ip", "link", "set", f"p{number}", "down")

    def plug(self, number: int) -> None:
        _run("ip", "link", "set", f"p{number}", "up")


@pytest.fixture
def machines(in_namespace: int, tmp_path: Path) -> Iterator[Machines]:
    made = Machines(tmp_path)
    made.etcd.start()
    yield made
    for member in made.etcd.members:
        resume(member)
    made.etcd.stop()
    for fd in made.fds:
        os.close(fd)


@pytest.fixture
def store(machines: Machines) -> Iterator[Store]:
    with contextlib.closing(open_store(machines.etcd.url("members"), create=True)) as opened:
        yield opened


def patiently(call: Callable[[], Record]) -> Record:
    """As an agent does: what is out of reach is tried again."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return call()
        except StoreUnavailable:
            assert time.monotonic() < end
            time.sleep(0.1)


def _count(url: str, times: int) -> None:
    store = open_store(url)
    for _ in range(times):
        while True:
            found = patiently(lambda: store.get("Node", "counter"))
            count = msgspec.json.decode(found.spec)["count"] + 1
            try:
                store.update_spec(msgspec.structs.replace(found, spec=b'{"count":%d}' % count))
                break
            except Stale:
                continue
            except StoreUnavailable:
                # not known whether it was done: the next look says so
                now = patiently(lambda: store.get("Node", "counter"))
                if msgspec.json.decode(now.spec)["count"] >= count:
                    break
    store.close()


def _claim(url: str, own: str, count: int) -> None:
    store = open_store(url)
    for number in range(count):
        spec = b'{"owner":"%s"}' % own.encode()
        try:
            patiently(lambda number=number, spec=spec: store.create(record(f"b{number}", spec, "Block")))  # type: ignore[misc]
        except Exists:
            found = patiently(lambda number=number: store.get("Block", f"b{number}"))  # type: ignore[misc]
            if found.spec != spec:
                continue
        patiently(lambda number=number: _once(store, f"{own}-{number}"))  # type: ignore[misc]
    store.close()


def _once(store: Store, name: str) -> Record:
    try:
        return store.create(record(name, kind="Claim"))
    except Exists:
        return store.get("Claim", name)


def test_members_fail_one_after_the_other_under_load(machines: Machines, store: Store) -> None:
    """No write is lost or done twice, no block has two owners, and a watch ends where a list does."""
    url = machines.etcd.url("members")
    store.create(record("counter", b'{"count":0}'))
    listed, token = store.list("Node", "Block", "Claim")
    mirror = {(one.kind, one.name): one for one in listed}
    work = [PROCESSES.Process(target=_claim, args=(url, own, 150)) for own in "ab"]
    work.append(PROCESSES.Process(target=_count, args=(url, 150)))
    for process in work:
        process.start()
    for turn, harm in enumerate(("kill", "stop", "cut", "unplug")):
        leader = machines.etcd.members.index(machines.etcd.leader())
        number = leader if turn % 2 == 0 else (leader + 1) % 3
        _harm(machines, number, harm)
        time.sleep(2.0)  # more than an election takes
        _heal(machines, number, harm)
    for process in work:
        process.join(3 * PATIENCE)
    assert [process.exitcode for process in work] == [0, 0, 0]
    final, _ = store.list("Node", "Block", "Claim")
    blocks = [one for one in final if one.kind == "Block"]
    claims = {one.name for one in final if one.kind == "Claim"}
    owned = {f"{msgspec.json.decode(one.spec)['owner']}-{one.name[1:]}" for one in blocks}
    assert len(blocks) == len(claims) == 150 and owned == claims
    with contextlib.closing(store.watch(("Node", "Block", "Claim"), token)) as watch:
        end = time.monotonic() + PATIENCE
        while sorted(mirror.values(), key=_order) != sorted(final, key=_order):
            assert time.monotonic() < end
            for event in watch.read():
                mirror[event.record.kind, event.record.name] = event.record
            time.sleep(0.01)


def _order(one: Record) -> tuple[str, str]:
    return one.kind, one.name


def test_calls_and_watches_go_on_at_another_member(machines: Machines, store: Store) -> None:
    """Whatever happens to the member that they were used to. A watch there would be silent for ever."""
    for harm in ("kill", "stop", "cut", "unplug"):
        _, token = store.list("Node")
        watch = store.watch(("Node",), token)
        number = store._client._at  # type: ignore[attr-defined]
        store.create(record(f"a-{harm}"))
        _harm(machines, number, harm)
        patiently(lambda harm=harm: store.create(record(f"b-{harm}")))  # type: ignore[misc]
        assert store._client._at != number, harm  # type: ignore[attr-defined]
        seen: list[Event] = []
        end = time.monotonic() + PATIENCE
        while [one.record.name for one in seen] != [f"a-{harm}", f"b-{harm}"]:
            assert time.monotonic() < end, (harm, seen)
            try:
                seen += watch.read()
            except StoreUnavailable:
                later = watch.token
                watch.close()
                watch = store.watch(("Node",), later)
            time.sleep(0.01)
        watch.close()
        _heal(machines, number, harm)


def _harm(machines: Machines, number: int, harm: str) -> None:
    member = machines.etcd.members[number]
    {
        "kill": member.kill,
        "stop": lambda: member.signal(signal.SIGSTOP),
        "cut": lambda: machines.cut_off(number),
        "unplug": lambda: machines.unplug(number),
    }[harm]()


def _heal(machines: Machines, number: int, harm: str) -> None:
    member = machines.etcd.members[number]
    {
        "kill": member.start,
        "stop": lambda: resume(member),
        "cut": lambda: machines.rejoin(number),
        "unplug": lambda: machines.plug(number),
    }[harm]()
    machines.etcd.wait()


def test_without_a_majority_it_fails_in_time_and_comes_back(machines: Machines, store: Store) -> None:
    store.create(record("a"))
    machines.etcd.members[0].kill()
    machines.etcd.members[1].kill()
    began = time.monotonic()
    with pytest.raises(StoreUnavailable) as caught:
        store.create(record("b"))
    assert time.monotonic() - began < PATIENCE / 2
    assert "192.0.2.1" in str(caught.value)
    machines.etcd.members[0].start()
    machines.etcd.members[1].start()

    def again() -> Record:
        try:
            return store.create(record("b"))
        except Exists:  # the one that failed was done after all
            return store.get("Node", "b")

    patiently(again)


def test_threads_that_call_at_once_lose_nothing_when_a_member_dies(machines: Machines, store: Store) -> None:
    def write(own: int) -> None:
        for number in range(30):
            patiently(lambda number=number: _once(store, f"c{own}-{number}"))  # type: ignore[misc]

    threads = [threading.Thread(target=write, args=(own,)) for own in range(4)]
    for thread in threads:
        thread.start()
    machines.etcd.members[store._client._at].kill()  # type: ignore[attr-defined]
    for thread in threads:
        thread.join()
    assert len(store.list("Claim")[0]) == 120

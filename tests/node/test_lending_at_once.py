"""Nodes that lend each other addresses at once, as agents do it: by what their mirrors of a store say."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from lenders import Fleet, Member, fleet

from etcd_cluster import Cluster, resume
from podway.model.errors import Conflict, Exhausted, Unavailable
from podway.store.mirror import Mirror

NAMES = ("a", "b", "c", "d")
POOLS: list[dict[str, object]] = [{"cidr": "10.0.0.0/28", "blockSize": 30}]
ROUNDS = 300
PATIENCE = 60.0


@pytest.fixture(params=["sqlite", "etcd"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:{tmp_path}/store.db"
        return
    cluster = Cluster.on_loopback(tmp_path / "etcd")
    cluster.start()
    yield cluster.url("lending")
    for member in cluster.members:
        resume(member)
    cluster.stop()


class Ledger:
    """Who has which address, at every moment."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._holders: dict[str, str] = {}
        self.borrowed = 0
        self.trouble: list[str] = []

    def take(self, address: str, who: str) -> None:
        with self._guard:
            other = self._holders.setdefault(address, who)
            if other != who:
                self.trouble.append(f"{address} is {who}'s and {other}'s")

    def give(self, address: str) -> None:
        with self._guard:
            del self._holders[address]


def _churn(member: Member, ledger: Ledger, seed: int) -> None:
    draw = Random(seed)
    for number in range(ROUNDS):
        with contextlib.suppress(Exhausted, Conflict, Unavailable):
            if draw.random() < 0.7:
                member.look()
            if member.pods and draw.random() < 0.45:
                name = draw.choice(sorted(member.pods))
                for address in member.pods[name].addresses:
                    ledger.give(address.partition("/")[0])
                member.delete(name)
            else:
                for address in member.add(f"{member.name}{number}"):
                    ledger.take(address, member.name)
                    ledger.borrowed += member.book.lending.holds(address)


def _run(made: Fleet, ledger: Ledger) -> None:
    def body(seed: int, member: Member) -> None:
        try:
            _churn(member, ledger, seed)
        except Exception as error:
            ledger.trouble.append(repr(error))

    threads = [
        threading.Thread(target=body, args=pair, daemon=True) for pair in enumerate(made.members.values())
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(3 * PATIENCE)
        assert not thread.is_alive()


def test_no_address_twice_at_any_moment_and_none_kept(url: str, tmp_path: Path) -> None:
    with (
        contextlib.ExitStack() as stack,
        fleet(tmp_path, pools=POOLS, url=url, cooldown=0) as made,
    ):
        for name in NAMES:
            mirror = Mirror(url, name)
            mirror.start()
            stack.callback(mirror.stop)
            mirror.wait(PATIENCE)
            made.join(name, lambda _, mirror=mirror: mirror.session())  # type: ignore[misc]
        ledger = Ledger()
        _run(made, ledger)
        assert ledger.trouble == [] and ledger.borrowed > 0
        for member in made.members.values():
            for name in member.pods:
                member.delete(name)
        end = time.monotonic() + PATIENCE
        while made.borrows():
            assert time.monotonic() < end, made.borrows()
            made.look(1)
            time.sleep(0.05)

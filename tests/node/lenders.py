"""Nodes on one store, without a kernel: what their engines do with addresses, step by step."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from podway.model import stored
from podway.model.errors import Conflict
from podway.model.resources import Endpoint, NodeFacts
from podway.node.book import AddressBook
from podway.node.cluster import Cluster
from podway.node.database import Database
from podway.plan.planner import Planner
from podway.store import Objects, Record, open_store

COOLDOWN = 30
SPEC = {"attach": "routed", "transport": "bgp", "cooldown": COOLDOWN}
POOLS: list[dict[str, object]] = [
    {"cidr": "10.0.0.0/28", "blockSize": 29},
    {"cidr": "fd00::/124", "blockSize": 125},
]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Member:
    """One node, as its engine uses the book: what it knows is what was there at its last look."""

    def __init__(
        self,
        name: str,
        directory: Path,
        url: str,
        clock: Clock,
        opener: Callable[[str], Objects] = open_store,
    ) -> None:
        self.name = name
        state = directory / name
        state.mkdir(exist_ok=True)
        self.database = Database.open(str(state))
        self.cluster = Cluster(name, url, self.database, opener)
        self.planner = Planner(NodeFacts(name=name))
        self.book = AddressBook(self.cluster, self.database, self.planner, clock, lambda: None)
        for endpoint in self.pods.values():
            self.book.hold(endpoint)
        self.look()

    @property
    def pods(self) -> dict[str, Endpoint]:
        return {name: endpoint for name, (endpoint, _) in self.database.endpoints().items()}

    @property
    def addresses(self) -> list[str]:
        return [a.partition("/")[0] for endpoint in self.pods.values() for a in endpoint.addresses]

    def look(self) -> None:
        self.cluster.refresh()
        self.planner.update_snapshot(self.cluster.snapshot)
        self.book.settle()
        self.planner.update_snapshot(self.cluster.snapshot)
        self.cluster.save(now=True)

    def add(self, container: str, *ips: str) -> tuple[str, ...]:
        network = self.book.network("pods")
        choice = self.book.allocate(network, f"{container}/eth0", ips, ())
        self.database.begin_add(
            Endpoint(container=container, ifname="eth0", network="pods", addresses=choice.addresses)
        )
        self.planner.update_snapshot(self.cluster.snapshot)
        return tuple(a.partition("/")[0] for a in choice.addresses)

    def delete(self, name: str) -> None:
        self.database.finish_delete([name], self.book.release(self.pods[name], cools=True))

    def close(self) -> None:
        self.cluster.close()
        self.database.close()


class Fleet:
    """Nodes on one store in a directory."""

    def __init__(
        self,
        directory: Path,
        *names: str,
        pools: list[dict[str, object]] = POOLS,
        url: str = "",
        **more: object,
    ) -> None:
        self.directory, self.url, self.clock = directory, url or f"sqlite:{directory}/store.db", Clock()
        self.store = open_store(self.url, create=True)
        spec = json.dumps(SPEC | {"pools": pools} | more).encode()
        self.store.create(Record(kind="Network", name="pods", spec=spec))
        self.members: dict[str, Member] = {}
        for name in names:
            self.join(name)

    def join(self, name: str, opener: Callable[[str], Objects] = open_store) -> Member:
        with contextlib.suppress(Conflict):
            self.store.create(Record(kind="Node", name=name))
        if name in self.members:
            self.members[name].close()
        self.members[name] = Member(name, self.directory, self.url, self.clock, opener)
        return self.members[name]

    def look(self, times: int = 2) -> None:
        for _ in range(times):
            for member in self.members.values():
                member.look()

    def borrows(self) -> dict[str, str]:
        found, _ = stored.snapshot(self.store.list("Borrow")[0])
        return {address: borrow.spec.node for address, borrow in found.borrows.items()}

    def offers(self, node: str) -> set[str]:
        found, _ = stored.snapshot(self.store.list("Block")[0])
        return {a for block in found.blocks.values() if block.spec.node == node for a in block.offers}

    def blocks(self, node: str) -> list[str]:
        found, _ = stored.snapshot(self.store.list("Block")[0])
        return [cidr for cidr, block in found.blocks.items() if block.spec.node == node]

    def close(self) -> None:
        for member in self.members.values():
            member.close()
        self.store.close()


@contextlib.contextmanager
def fleet(directory: Path, *names: str, **more: object) -> Iterator[Fleet]:
    made = Fleet(directory, *names, **more)  # type: ignore[arg-type]
    try:
        yield made
    finally:
        made.close()

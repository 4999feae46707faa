"""A lost or outdated database: living pods keep their network, what an earlier boot left is freed."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from podway.kernel import namespaces
from podway.kernel.monitor import Monitor
from podway.model.errors import Unavailable
from podway.model.resources import Bandwidth, Endpoint, PortMap
from podway.node.engine import open_engine
from podway.node.requests import AttachRequest
from podway.store import Record, open_store

pytestmark = pytest.mark.kernel

SPEC = {"pools": [{"cidr": "10.244.0.0/16"}, {"cidr": "fd00:10:244::/48"}], "cooldown": 600}
PORTS = (
    PortMap(host_port=8080, container_port=80),
    PortMap(host_port=5353, container_port=53, protocol="udp"),
)
RATES = Bandwidth(
    ingress_rate=50_000_000, egress_rate=80_000_000, ingress_burst=800_000, egress_burst=800_000
)


class Node:
    """A node whose database can be damaged between two openings."""

    def __init__(self, directory: Path) -> None:
        self.state = directory / "state"
        self.url = f"sqlite:{directory}/store.db"
        self.file = self.state / "node.db"
        store = open_store(self.url, create=True)
        store.create(Record(kind="Network", name="pods", spec=json.dumps(SPEC).encode()))
        store.close()

    def add(self, pod: int, container: str, **more: object) -> Endpoint:
        with open_engine("a", str(self.state), self.url) as engine:
            asked = {
                "container": container,
                "ifname": "eth0",
                "network": "pods",
                "namespace": f"/{container}",
            }
            return engine.add(AttachRequest(**(asked | more)), pod)  # type: ignore[arg-type]

    def endpoints(self) -> dict[str, Endpoint]:
        with open_engine("a", str(self.state), self.url) as engine:
            assert engine.reconciler.plan()[0] == ()
            return dict(engine.attachments.endpoints)

    def kinds(self) -> list[str]:
        with open_engine("a", str(self.state), self.url) as engine:
            return [entry.kind for entry in engine.database.journal(100)]


@pytest.fixture
def node(tmp_path: Path, in_namespace: int) -> Node:
    return Node(tmp_path)


@pytest.fixture
def held(pod_namespace: int) -> Iterator[int]:
    """A pod's namespace with a process in it, as a container's."""
    with namespaces.entered(pod_namespace):
        process = subprocess.Popen(["sleep", "1000"])
    yield pod_namespace
    process.kill()
    process.wait()


def _garbage(file: Path) -> None:
    file.write_bytes(os.urandom(20_000))


def _truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: 3 * 4096 + 100])


def _emptied_of_tables(file: Path) -> None:
    connection = sqlite3.connect(file)
    connection.execute("DROP TABLE endpoint")
    connection.commit()
    connection.close()


@pytest.mark.parametrize("damage", [_garbage, _truncated, _emptied_of_tables])
def test_a_pod_lives_through_the_loss_of_the_database(node: Node, held: int, damage: object) -> None:
    before = node.add(held, "c1", ports=PORTS, bandwidth=RATES)
    assert callable(damage)
    damage(node.file)
    after = node.endpoints()["c1/eth0"]
    assert (after.addresses, set(after.gateways)) == (before.addresses, set(before.gateways))
    for name in ("mac", "host_link", "bridge", "mtu"):
        assert getattr(after, name) == getattr(before, name)
    assert after.namespace_id == before.namespace_id and set(after.ports) == set(before.ports)
    assert after.bandwidth.ingress_rate == 50_000_000 and after.bandwidth.egress_rate == 80_000_000
    assert list(node.state.glob("node.db.corrupt-*")), "the damaged file is kept"
    assert "recovered" in node.kinds()
    other = namespaces.create()
    try:
        assert not set(node.add(other, "c2").addresses) & set(before.addresses)
    finally:
        os.close(other)


def test_the_kernel_is_left_in_peace_meanwhile(node: Node, held: int) -> None:
    node.add(held, "c1", ports=PORTS)
    _garbage(node.file)
    monitor = Monitor()
    try:
        node.endpoints()
        # (a link's operational state still changes by itself a moment after it came up)
        events = [event for event in monitor.read() if event.kind != "link" or event.deleted]
        told = [event.key for event in events if event.kind in ("link", "address", "route")]
    finally:
        monitor.close()
    assert told == []


def test_a_pod_whose_namespace_is_not_found_keeps_its_network_too(node: Node, pod_namespace: int) -> None:
    before = node.add(pod_namespace, "c1")
    _garbage(node.file)
    after = node.endpoints()["c1/eth0"]
    assert (set(after.addresses), after.mac) == (set(before.addresses), before.mac)


def test_endpoints_of_an_earlier_boot_are_freed(node: Node, pod_namespace: int) -> None:
    before = node.add(pod_namespace, "c1", ports=PORTS)
    connection = sqlite3.connect(node.file)
    (value,) = connection.execute("SELECT value FROM endpoint").fetchone()
    earlier = json.dumps(json.loads(value) | {"boot_id": "another"}).encode()
    connection.execute("UPDATE endpoint SET value = ?", (earlier,))
    connection.commit()
    connection.close()
    assert node.endpoints() == {}
    ips = tuple(address.partition("/")[0] for address in before.addresses)
    other = namespaces.create()
    try:
        assert node.add(other, "c2", ips=ips, ports=PORTS).addresses == before.addresses
    finally:
        os.close(other)


def test_a_database_of_a_later_version_is_left_alone(node: Node, pod_namespace: int) -> None:
    node.add(pod_namespace, "c1")
    connection = sqlite3.connect(node.file)
    connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(Unavailable, match="format is 99"):
        node.endpoints()
    assert not list(node.state.glob("node.db.corrupt-*"))

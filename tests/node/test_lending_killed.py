"""SIGKILL of a real process at each step of borrowing and lending: what comes next puts it right.

The tests of ``test_lending`` do this to the book in any order; here it is the whole engine on a kernel.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from lenders import Fleet, fleet

from podway.kernel.facade import Kernel
from podway.model.objects import Route
from podway.node.database import Database

pytestmark = pytest.mark.kernel

TINY = [{"cidr": "10.0.0.0/29", "blockSize": 30}]


class Node:
    """A node that is called as a runtime calls it, without an agent."""

    def __init__(self, made: Fleet, name: str, pod: int) -> None:
        self.fleet, self.name, self.pod = made, name, pod
        self.state = made.directory / name
        self.options = ["--node", name, "--state-dir", str(self.state), "--store", made.url]

    def call(self, command: str, fault: str = "") -> tuple[int, dict]:  # type: ignore[type-arg]
        """Exit code and the document on stdout."""
        document = {"cniVersion": "1.1.0", "name": "pods", "type": "podway-cni", "network": "pods"}
        environment = {"CNI_COMMAND": command, "CNI_PATH": "/opt/cni/bin", "PATH": os.environ["PATH"]}
        if command in ("ADD", "DEL"):
            environment |= {"CNI_CONTAINERID": "c1", "CNI_IFNAME": "eth0"}
            environment["CNI_NETNS"] = f"/proc/{os.getpid()}/fd/{self.pod}" if command == "ADD" else ""
        done = subprocess.run(
            [sys.executable, "-m", "podway.cni.inprocess", *self.options],
            input=json.dumps(document).encode(),
            capture_output=True,
            env=environment | ({"PODWAY_FAULT": fault} if fault else {}),
            check=False,
        )
        return done.returncode, json.loads(done.stdout) if done.stdout else {}

    def podway(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "podway", *words, *self.options]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def routes(self) -> dict[str, str]:
        """Destination of full length → device, or type."""
        kernel = Kernel()
        try:
            found = kernel.observe().values()
        finally:
            kernel.close()
        routes = sorted((r for r in found if isinstance(r, Route)), key=lambda route: -route.metric)
        return {r.dst: r.dev or r.type for r in routes if r.dst.endswith("/32")}

    def pods(self) -> list[str]:
        database = Database.open(str(self.state), readonly=True)
        try:
            return list(database.endpoints())
        finally:
            database.close()


@pytest.fixture
def late(tmp_path: Path, in_namespace: int, pod_namespace: int) -> Iterator[Node]:
    """Both blocks of the pool are others' when this node comes."""
    with fleet(tmp_path, "x", "y", pools=TINY, transport="host-gw", cooldown=0) as made:
        for name, member in made.members.items():
            member.add(f"{name}1")
        made.look()
        yield Node(made, "late", pod_namespace)


def test_a_borrowed_address_from_add_to_delete(late: Node) -> None:
    code, document = late.call("ADD")
    assert code == 0, document
    ((address, owner),) = late.fleet.borrows().items()
    assert owner == "late" and [ip["address"] for ip in document["ips"]] == [f"{address}/32"]
    assert late.routes()[f"{address}/32"].startswith("pw")
    assert f"{address}  borrowed by node late  c1/eth0" in late.podway("ipam", "show").stdout
    check = late.podway("ipam", "check")
    assert (check.returncode, check.stderr) == (0, ""), check.stdout
    assert late.call("DEL")[0] == 0
    assert late.call("STATUS")[0] == 0
    assert late.fleet.borrows() == {} and f"{address}/32" not in late.routes()
    assert "borrowed" not in late.podway("ipam", "show").stdout


@pytest.mark.parametrize(
    "point", ["borrow.created", "borrow.looked", "add.claimed", "add.journalled", "add.wired"]
)
def test_killed_in_an_add_that_borrows(late: Node, point: str) -> None:
    assert late.call("ADD", fault=point)[0] == -signal.SIGKILL
    assert len(late.fleet.borrows()) == 1
    assert late.call("STATUS")[0] == 0
    assert late.fleet.borrows() == {} and late.pods() == []
    assert late.call("ADD")[0] == 0
    assert len(late.fleet.borrows()) == 1


@pytest.mark.parametrize("point", ["delete.detached", "delete.finished", "borrow.returned"])
def test_killed_after_a_delete(late: Node, point: str) -> None:
    assert late.call("ADD")[0] == 0
    if point.startswith("delete."):
        assert late.call("DEL", fault=point)[0] == -signal.SIGKILL
    else:
        assert late.call("DEL")[0] == 0
        assert late.call("STATUS", fault=point)[0] == -signal.SIGKILL
    assert late.call("STATUS")[0] == 0
    assert late.fleet.borrows() == {} and late.pods() == []


@pytest.mark.parametrize("point", ["lend.kept", "lend.told"])
def test_killed_while_it_offers(tmp_path: Path, in_namespace: int, pod_namespace: int, point: str) -> None:
    """What was kept back stays so, whether anybody was told or not."""
    with fleet(tmp_path, "x", pools=TINY, transport="host-gw", cooldown=0) as made:
        owner = Node(made, "owner", pod_namespace)
        code, document = owner.call("ADD")
        assert code == 0
        made.members["x"].add("x1")  # the last block
        assert owner.call("STATUS", fault=point)[0] == -signal.SIGKILL
        assert bool(made.offers("owner")) == (point == "lend.told")
        kept = json.loads((owner.state / "offers.json").read_text())["offers"]
        assert owner.call("STATUS")[0] == 0
        assert made.offers("owner") == {address for found in kept.values() for address in found}
        assert document["ips"][0]["address"].partition("/")[0] not in made.offers("owner")

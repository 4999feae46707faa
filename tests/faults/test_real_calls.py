"""The installed executable against a real agent, as a runtime uses them: a hundred at once, twice the same
at once, the agent killed at every named point, and agent and in-process calls killed at random.

Whatever was killed: after the runtime's DEL and a start nothing of a pod is left, and no address was ever
held by two pods.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from podway.kernel import namespaces
from podway.kernel.facade import Kernel
from podway.model.objects import Link
from podway.node.database import Database
from podway.node.faults import POINTS
from podway.store import Record, open_store

pytestmark = pytest.mark.kernel

NETWORK = {"pools": [{"cidr": "10.244.0.0/16"}], "cooldown": 0}
PATIENCE = 30.0
RETRY_LATER = 11
Answer = tuple[int, dict]  # type: ignore[type-arg]


class Node:
    """One node: an agent that comes and goes, and the plugin as installed for it."""

    def __init__(self, directory: Path, place: int) -> None:
        self.directory, self.place = directory, place
        self.state, self.url = str(directory / "state"), f"sqlite:{directory}/store.db"
        self.where = ["--node", "a", "--store", self.url, "--state-dir", self.state]
        self.socket = ["--socket", str(directory / "cni.sock")]
        self.process: subprocess.Popen[bytes] | None = None
        self.pods: dict[str, int] = {}
        store = open_store(self.url, create=True)
        store.create(Record(kind="Network", name="pods", spec=json.dumps(NETWORK).encode()))
        store.close()
        where = ["--bin-dir", str(directory / "bin"), "--conf-dir", str(directory / "net.d")]
        for path in ("bin", "net.d"):
            (directory / path).mkdir()
        install = ["cni", "install", *where, "--network", "pods", *self.socket, *self.where]
        subprocess.run([sys.executable, "-m", "podway", *install], check=True, capture_output=True)
        (installed,) = (directory / "net.d").glob("*.conflist")
        whole = json.loads(installed.read_text())
        self.conf = whole["plugins"][0] | {"cniVersion": "1.0.0", "name": whole["name"]}
        self.program = str(directory / "bin" / self.conf["type"])

    def start(self, fault: str = "", wait: bool = True) -> None:
        """Start the agent, and wait until it is ready."""
        path = str(self.directory / f"notify-{random.getrandbits(64):x}")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            ready.bind(path)
            ready.settimeout(PATIENCE)
            self.process = subprocess.Popen(
                [sys.executable, "-m", "podway", "agent", *self.where, *self.socket, "--listen", ""],
                env=os.environ | {"NOTIFY_SOCKET": path, "PODWAY_FAULT": fault},
                stderr=(self.directory / "log").open("ab"),
            )
            if wait:
                assert ready.recv(100) == b"READY=1"

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End the agent."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(PATIENCE)
            self.process = None

    def pod(self, container: str) -> int:
        """The descriptor of its namespace."""
        return self.pods.setdefault(container, namespaces.create())

    def popen(self, command: str, container: str) -> subprocess.Popen[bytes]:
        """The executable, begun."""
        environment = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container,
            "CNI_IFNAME": "eth0",
            "CNI_NETNS": f"/proc/{os.getpid()}/fd/{self.pods[container]}" if container in self.pods else "",
            "CNI_PATH": "/opt/cni/bin",
            "PATH": os.environ["PATH"],
        }
        pipe = subprocess.PIPE
        process = subprocess.Popen([self.program], stdin=pipe, stdout=pipe, stderr=pipe, env=environment)
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(self.conf).encode())
            process.stdin.close()
        process.stdin = None
        return process

    def call(self, command: str, container: str) -> Answer:
        """Exit code and document, in the node's namespace, from any thread."""
        with namespaces.entered(self.place):
            process = self.popen(command, container)
        out, _ = process.communicate(timeout=PATIENCE)
        return process.returncode, json.loads(out) if out else {}

    def leftovers(self) -> list[str]:
        """What is left of any pod."""
        kernel = Kernel()
        try:
            actual = kernel.observe()
        finally:
            kernel.close()
        links = [o for o in actual.values() if isinstance(o, Link)]
        found = [link.name for link in links if (link.alias or "").startswith("podway:pod:")]
        pods = ("masquerade4", "neighbours4", "guarded", "macs", "sources4", "sources6", "targets6")
        found += [" ".join(key) for key in actual if key[0] == "nftelement" and key[2] in pods]
        database = Database.open(self.state, readonly=True)
        found += list(database.endpoints())
        database.close()
        return found

    def settle(self) -> None:
        """Wait for what goes off the answer's path."""
        end = time.monotonic() + PATIENCE
        while self.leftovers() and time.monotonic() < end:
            time.sleep(0.05)
        assert self.leftovers() == []


@pytest.fixture
def node(tmp_path: Path, in_namespace: int) -> Iterator[Node]:
    made = Node(tmp_path, in_namespace)
    try:
        yield made
    finally:
        made.kill()
        for fd in made.pods.values():
            os.close(fd)


def _address(document: dict) -> str:  # type: ignore[type-arg]
    return str(document["ips"][0]["address"])


def test_a_hundred_at_once(node: Node) -> None:
    node.start()
    containers = [f"c{number}" for number in range(100)]
    for container in containers:
        node.pod(container)
    with ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(lambda container: node.call("ADD", container), containers))
        assert [document for code, document in answers if code] == []
        assert len({_address(document) for _, document in answers}) == 100
        ended = list(pool.map(lambda container: node.call("DEL", container), containers))
    assert {code for code, _ in ended} == {0}
    node.settle()


def test_two_different_adds_of_one_interface(node: Node) -> None:
    """One wins; the other is told who stands there."""
    node.start()
    other = namespaces.create()
    try:
        for turn in range(5):
            name, pods = f"c{turn}", (node.pod(f"c{turn}"), other)
            started = threading.Barrier(2)

            def add(pod: int, name: str = name, started: threading.Barrier = started) -> Answer:
                with namespaces.entered(node.place):
                    node.pods[name] = pod
                    started.wait()
                    process = node.popen("ADD", name)
                out, _ = process.communicate(timeout=PATIENCE)
                return process.returncode, json.loads(out)

            with ThreadPoolExecutor(2) as pool:
                answers = list(pool.map(add, pods))
            node.pods[name] = pods[0]
            codes = sorted(code for code, _ in answers)
            if codes == [0, 1]:  # both may have named the same namespace: then they are one request
                (lost,) = [document for code, document in answers if code]
                assert "is attached already" in lost["msg"]
            else:
                assert codes == [0, 0] and answers[0][1]["ips"] == answers[1][1]["ips"]
            assert node.call("DEL", name)[0] == 0
        node.settle()
    finally:
        os.close(other)


@pytest.mark.parametrize("point", POINTS)
def test_the_agent_is_killed_at(node: Node, point: str) -> None:
    """A call that an agent took and lost is code 11, never carried out a second time by the caller."""
    node.pod("c1")
    if point.startswith("delete."):
        node.start()
        assert node.call("ADD", "c1")[0] == 0
        node.kill(signal.SIGTERM)
    node.start(fault=point)
    code, document = node.call("DEL" if point.startswith("delete.") else "ADD", "c1")
    answered_before = point in ("delete.buried", "delete.finished")  # links go off the answer's path
    assert (code, document.get("code")) == ((0, None) if answered_before else (1, RETRY_LATER))
    assert node.process is not None and node.process.wait(PATIENCE) == -signal.SIGKILL
    node.start()
    assert node.call("DEL", "c1")[0] == 0
    node.settle()
    assert node.call("ADD", "c1")[0] == 0


def _storm(node: Node, seed: int, seconds: float) -> None:
    """Runtimes attach and detach while the agent, and calls, are killed at random."""
    rng = random.Random(seed)
    end = time.monotonic() + seconds
    held: dict[str, str] = {}
    guard = threading.Lock()

    def runtime(number: int) -> None:
        mine = random.Random(f"{seed}/{number}")
        turn = 0
        while time.monotonic() < end:
            container = f"r{number}t{turn}"
            turn += 1
            with guard:
                node.pod(container)
            with namespaces.entered(node.place):
                process = node.popen("ADD", container)
            if mine.random() < 0.3:
                time.sleep(mine.uniform(0, 0.15))
                process.kill()  # a runtime's timeout
            out, _ = process.communicate(timeout=PATIENCE)
            if process.returncode == 0:
                with guard:
                    address = _address(json.loads(out))
                    assert address not in held.values(), f"seed {seed}: {address} was given twice"
                    held[container] = address
                time.sleep(mine.uniform(0, 0.05))
                with guard:
                    held.pop(container)
            while node.call("DEL", container)[0] != 0:  # as a runtime: again, until it is gone
                time.sleep(0.02)
            with guard:
                os.close(node.pods.pop(container))

    with ThreadPoolExecutor(4) as pool:
        work = [pool.submit(runtime, number) for number in range(4)]
        while time.monotonic() < end:
            node.start(wait=False)
            time.sleep(rng.uniform(0.05, 0.6))
            node.kill(rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM]))
            time.sleep(rng.uniform(0, 0.2))
        for one in work:
            one.result(PATIENCE)


def _survives(node: Node, seed: int, seconds: float) -> None:
    print(f"seed {seed}")
    _storm(node, seed, seconds)
    node.start()
    node.settle()
    database = Database.open(node.state, readonly=True)
    kinds = Counter(entry.kind for entry in database.journal(100_000))
    database.close()
    assert not kinds["failed"], kinds


def test_agent_and_in_process_calls_killed_at_random(node: Node) -> None:
    _survives(node, random.randrange(1 << 32), 6.0)


@pytest.mark.soak
@pytest.mark.parametrize("number", range(20))
def test_many_storms(node: Node, number: int) -> None:
    _survives(node, random.randrange(1 << 32), 30.0)

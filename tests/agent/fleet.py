"""A few nodes on one segment, each a namespace with an agent of its own, over one store; and their pods."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from podway.kernel import namespaces
from podway.kernel.facade import Kernel
from podway.node.cluster import Cluster
from podway.node.database import Database, JournalEntry
from podway.node.preview import preview
from podway.store import Exists, NotFound, Record, Stale, open_store
from readiness import awaited

PATIENCE = 30.0
PODWAY = [sys.executable, "-m", "podway"]
NETWORKS: dict[str, dict[str, object]] = {  # one of each transport
    "pods": {"transport": "host-gw", "pools": [{"cidr": "10.244.0.0/16"}]},
    "tunnel": {"transport": "vxlan", "pools": [{"cidr": "10.99.0.0/16"}]},
}


def until(holds: Callable[[], object], what: str = "", patience: float = PATIENCE) -> None:
    """Wait for a condition. Raises AssertionError with ``what`` it was."""
    deadline = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < deadline, what or holds
        time.sleep(0.02)


class Machine:
    """One node. Everything is run in its network namespace."""

    def __init__(self, name: str, directory: Path, url: str) -> None:
        self.name, self.directory, self.url = name, directory, url
        directory.mkdir(parents=True, exist_ok=True)
        self.place = namespaces.create()
        self.state = str(directory / "state")
        self.process: subprocess.Popen[bytes] | None = None
        self.pods: dict[str, int] = {}
        self.options: list[str] = []
        self.number = 0  # the last part of its addresses

    def run(self, command: str, check: bool = True) -> str:
        """stdout of a command."""
        with namespaces.entered(self.place):
            done = subprocess.run(command.split(), capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    @property
    def environment(self) -> dict[str, str]:
        """What points podway's commands at this node."""
        return os.environ | {
            "PODWAY_STORE": self.url,
            "PODWAY_NODE": self.name,
            "PODWAY_STATE_DIR": self.state,
            "PODWAY_SOCKET": str(self.directory / "cni.sock"),
        }

    def podway(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command of podway's about this node."""
        with namespaces.entered(self.place):
            return subprocess.run(
                [*PODWAY, *arguments], env=self.environment, capture_output=True, text=True, check=False
            )

    def start(self) -> None:
        """Start the agent and wait until it is ready."""
        with awaited(self.directory) as told, namespaces.entered(self.place):
            self.process = subprocess.Popen(
                [*PODWAY, "agent", "--listen", "", *self.options],
                env=self.environment | told,
                stderr=(self.directory / "log").open("ab"),
            )

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End the agent."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(PATIENCE)
            self.process = None

    def status(self) -> str:
        """What ``podway status`` shows."""
        return self.podway("status").stdout

    def says(self, words: str) -> None:
        """Wait until the status holds ``words``."""
        try:
            until(lambda: words in self.status())
        except AssertionError:
            raise AssertionError(f"{words!r} in the status of {self.name}:\n{self.status()}") from None

    def settled(self) -> bool:
        """Whether a pass would change nothing."""
        with namespaces.entered(self.place):
            ops = preview(self.name, self.state, self.url).ops
        return not ops

    def journal(self, since: float) -> list[JournalEntry]:
        """Entries made from ``since`` on."""
        database = Database.open(self.state, readonly=True)
        try:
            return [entry for entry in database.journal(2000) if entry.time >= since]
        finally:
            database.close()

    def observe(self) -> dict:  # type: ignore[type-arg]
        """What of Podway's is in the kernel."""
        with namespaces.entered(self.place):
            kernel = Kernel()
            try:
                return kernel.observe()
            finally:
                kernel.close()

    def blocks(self, network: str = "pods") -> list[str]:
        """The CIDRs that the store says are this node's."""
        database = Database.open(self.state, readonly=True)
        cluster = Cluster(self.name, self.url, database)
        try:
            cluster.refresh(remember=False)
            return cluster.blocks(cluster.snapshot.networks[network])
        finally:
            cluster.close()
            database.close()

    def attach(self, container: str, network: str = "pods", check: bool = True) -> dict:  # type: ignore[type-arg]
        """ADD a pod by the executable, as installed; its result document."""
        where = ["--bin-dir", str(self.directory / "bin"), "--conf-dir", str(self.directory / "net.d")]
        for name in ("bin", "net.d"):
            (self.directory / name).mkdir(exist_ok=True)
        target = ["--network", network, "--socket", str(self.directory / "cni.sock")]
        done = self.podway("cni", "install", *where, *target)
        assert done.returncode == 0, done.stderr
        (conflist,) = (self.directory / "net.d").glob(f"*-{network}.conflist")
        whole = json.loads(conflist.read_text())
        conflist.unlink()
        conf = whole["plugins"][0] | {"cniVersion": "1.0.0", "name": whole["name"]}
        fd = self.pods.setdefault(container, namespaces.create())
        environment = {
            "CNI_COMMAND": "ADD",
            "CNI_CONTAINERID": container,
            "CNI_IFNAME": "eth0",
            "CNI_NETNS": f"/proc/{os.getpid()}/fd/{fd}",
            "CNI_PATH": "/opt/cni/bin",
            "PATH": os.environ["PATH"],
        }
        with namespaces.entered(self.place):
            done = subprocess.run(
                [str(self.directory / "bin" / conf["type"])],
                input=json.dumps(conf),
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
        answer: dict = json.loads(done.stdout)  # type: ignore[type-arg]
        assert not check or done.returncode == 0, answer
        return answer

    def close(self) -> None:
        """Kill the agent; the namespaces go with their descriptors."""
        self.stop(signal.SIGKILL)
        for fd in (*self.pods.values(), self.place):
            os.close(fd)


def address_of(answer: dict, family: int = 4) -> str:  # type: ignore[type-arg]
    """The bare address of a result document."""
    found = [ip["address"].partition("/")[0] for ip in answer["ips"]]
    return next(a for a in found if (":" in a) == (family == 6))


class Fleet:
    """Machines ``a``, ``b``, … at 192.0.2.1, .2, … and 2001:db8::1, … on one bridge."""

    def __init__(self, directory: Path, **networks: dict) -> None:  # type: ignore[type-arg]
        self.directory, self.url = directory, f"sqlite:{directory}/store.db"
        self.switch = namespaces.create()
        self.machines: dict[str, Machine] = {}
        self._inside("ip link add br0 type bridge mcast_snooping 0")
        self._inside("ip link set br0 up")
        for name, spec in networks.items():
            self.put("Network", name, spec)

    def _inside(self, command: str) -> None:
        with namespaces.entered(self.switch):
            subprocess.run(command.split(), check=True, capture_output=True)

    def put(self, kind: str, name: str, spec: object) -> None:
        """Create or replace an object's spec in the store, unchecked; bytes as they are."""
        raw = spec if isinstance(spec, bytes) else json.dumps(spec).encode()
        with contextlib.closing(open_store(self.url, create=True)) as store:
            while True:
                with contextlib.suppress(Stale, Exists):  # its agent wrote it meanwhile
                    try:
                        old = store.get(kind, name)
                        store.update_spec(Record(kind=kind, name=name, spec=raw, version=old.version))
                    except NotFound:
                        store.create(Record(kind=kind, name=name, spec=raw))
                    return

    def remove(self, kind: str, name: str) -> None:
        """Delete an object."""
        store = open_store(self.url)
        try:
            store.delete(kind, name)
        finally:
            store.close()

    def block(self, cidr: str, node: str, network: str = "pods") -> None:
        """A claim, as a node writes it."""
        self.put("Block", cidr, {"network": network, "node": node, "attach": "bridge"})

    def add(self, name: str, number: int, directory: str = "") -> Machine:
        """One more machine, its agent not started."""
        machine = Machine(name, self.directory / (directory or name), self.url)
        machine.number = number
        self.machines[directory or name] = machine
        port = f"port{len(self.machines)}"
        path = f"/proc/{os.getpid()}/fd/{machine.place}"
        self._inside(f"ip link add {port} type veth peer name eth0 netns {path}")
        self._inside(f"ip link set {port} master br0 up")
        machine.run("ip link set lo up")
        machine.run(f"ip address add 192.0.2.{number}/24 dev eth0")
        machine.run(f"ip address add 2001:db8::{number:x}/64 dev eth0 nodad")
        machine.run("ip link set eth0 up")
        return machine

    def settled(self) -> bool:
        """Whether no running agent would change anything."""
        return all(m.settled() for m in self.machines.values() if m.process is not None)

    def settle(self) -> None:
        """Wait until it is so."""
        until(self.settled, "agents settle")

    def podway(self, *arguments: str) -> str:
        """stdout of a command of podway's about the cluster."""
        return next(iter(self.machines.values())).podway(*arguments).stdout

    def close(self) -> None:
        """End all of it."""
        for machine in self.machines.values():
            machine.close()
        os.close(self.switch)


@contextlib.contextmanager
def fleet(directory: Path, names: str = "ab", **networks: dict) -> Iterator[Fleet]:  # type: ignore[type-arg]
    """A fleet with one running agent per letter of ``names``."""
    made = Fleet(directory, **networks)
    try:
        for number, name in enumerate(names, 1):
            made.add(name, number)
        for name in names:
            made.machines[name].start()
        yield made
    finally:
        made.close()


def reaches(machine: Machine, pod: str, address: str) -> bool:
    """Whether a pod of ``machine`` gets an answer to a ping within a second."""
    with namespaces.entered(machine.pods[pod]):
        command = ["ping", "-c1", "-W1", "-i0.2", address]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

"""Machines on one segment: an etcd, nodes with real flanneld, nodes with Podway's agent, and their pods."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench import built
from podway.kernel import namespaces
from podway.store import Record, open_store
from podway.store.etcd_client import Client
from podway.store.etcd_url import parse
from podway.store.flannel import LeaseStore
from readiness import awaited

PATIENCE = 30.0
ETCD = "192.0.2.100"
PREFIX = "coreos.com/network"
URL = f"etcd:http://{ETCD}:2379/{PREFIX}"
PODWAY = [sys.executable, "-m", "podway"]


def until(holds: Callable[[], Any], what: str) -> Any:
    """Wait for a condition; its value."""
    end = time.monotonic() + PATIENCE
    while not (found := holds()):
        assert time.monotonic() < end, what
        time.sleep(0.05)
    return found


class Machine:
    """A network namespace and what runs in it."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.directory = directory / name
        self.directory.mkdir()
        self.fd = namespaces.create()
        self._running: list[subprocess.Popen[bytes]] = []
        self.run("ip link set lo up")

    def run(self, command: str, check: bool = True) -> str:
        """Standard output of a command, split at blanks, inside."""
        return self.call(*command.split(), check=check)

    def call(self, *arguments: str, check: bool = True, **more: Any) -> str:
        """The same for separate arguments."""
        with namespaces.entered(self.fd):
            done = subprocess.run(arguments, capture_output=True, text=True, **more)
        assert not check or done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def spawn(self, *arguments: str, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        """A long-running command inside, with a log in its directory."""
        with namespaces.entered(self.fd), (self.directory / "log").open("ab") as log:
            process = subprocess.Popen(arguments, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._running.append(process)
        return process

    @property
    def log(self) -> str:
        """What its programs said."""
        return (self.directory / "log").read_text(errors="replace")

    def reaches(self, address: str) -> bool:
        """Whether one echo request is answered."""
        with namespaces.entered(self.fd):
            command = ["ping", "-c", "1", "-W", "1", address]
            return subprocess.run(command, capture_output=True).returncode == 0

    def end(self) -> None:
        """Kill what runs in it."""
        for process in self._running:
            process.kill()
            process.wait()
        self._running.clear()

    def close(self) -> None:
        """End it."""
        self.end()
        os.close(self.fd)


class Node(Machine):
    """A machine with pods; ``pods`` by name."""

    def __init__(self, name: str, directory: Path, number: int) -> None:
        super().__init__(name, directory)
        self.addresses = (f"192.0.2.{number}", f"2001:db8::{number:x}")
        self.pods: dict[str, tuple[Machine, list[str]]] = {}

    def close(self) -> None:
        for pod, _ in self.pods.values():
            pod.close()
        super().close()


class FlannelNode(Node):
    """flanneld, and pods wired to a bridge as Flannel's CNI plugin has the bridge plugin do it."""

    def start(self, dual: bool = False) -> None:
        """Start flanneld and wait for its subnet."""
        self.run("sysctl -qw net.ipv4.ip_forward=1")
        self.run("sysctl -qw net.ipv6.conf.all.forwarding=1")
        self.file = self.directory / "subnet.env"
        self.file.unlink(missing_ok=True)
        endpoint = ["-etcd-endpoints", f"http://{ETCD}:2379", "-etcd-prefix", f"/{PREFIX}"]
        where = ["-iface", "eth0", "-subnet-file", str(self.file), "-healthz-port", "0"]
        process = self.spawn(str(built.flannel()), *endpoint, *where, "-iptables-forward-rules=false")

        def leased() -> bool:
            assert process.poll() is None, self.log
            return self.file.exists()

        until(leased, "flanneld has no subnet")
        values = dict(line.split("=", 1) for line in self.file.read_text().split())
        self.subnets = [values["FLANNEL_SUBNET"]] + ([values["FLANNEL_IPV6_SUBNET"]] if dual else [])
        self.mtu = values["FLANNEL_MTU"]

    def pod(self, name: str) -> tuple[Machine, list[str]]:
        """A pod and its addresses."""
        made = Machine(f"{self.name}-{name}", self.directory)
        if not self.pods:
            self.run("ip link add cni0 type bridge")
            self.run("ip link set cni0 up")
            for subnet in self.subnets:
                self.run(f"ip addr add {subnet} dev cni0" + (" nodad" if ":" in subnet else ""))
        link = f"veth{len(self.pods)}"
        path = f"/proc/{os.getpid()}/fd/{made.fd}"
        self.run(f"ip link add {link} mtu {self.mtu} type veth peer name eth0 mtu {self.mtu} netns {path}")
        self.run(f"ip link set {link} master cni0 up")
        addresses = []
        made.run("ip link set eth0 up")
        for subnet in self.subnets:
            gateway, _, length = subnet.partition("/")
            address = gateway[:-1] + str(len(self.pods) + 10)
            six = " nodad" if ":" in subnet else ""
            made.run(f"ip addr add {address}/{length} dev eth0{six}")
            made.run(f"ip {'-6' if six else '-4'} route add default via {gateway}")
            addresses.append(address)
        self.pods[name] = made, addresses
        return self.pods[name]


class PodwayNode(Node):
    """Podway's agent, and pods wired by the installed plugin. All of a lab share one store."""

    def __init__(self, name: str, directory: Path, number: int) -> None:
        super().__init__(name, directory, number)
        self.store = f"sqlite:{directory}/store.db"
        self.place = ["--node", name, "--store", self.store, "--state-dir", str(self.directory / "state")]
        self.socket = ["--socket", str(self.directory / "cni.sock")]

    def start(self) -> None:
        """Start the agent, and wait until it is ready."""
        with awaited(self.directory) as told:
            command = [*PODWAY, "agent", *self.place, *self.socket, "--listen", ""]
            self.spawn(*command, env=os.environ | told)

    @property
    def status(self) -> dict[str, Any]:
        """What the agent says."""
        command = [*PODWAY, "status", "--node", self.name, *self.socket, "-o", "json"]
        found: dict[str, Any] = json.loads(self.call(*command, check=False))
        return found

    def pod(self, name: str) -> tuple[Machine, list[str]]:
        """A pod and its addresses."""
        made = Machine(f"{self.name}-{name}", self.directory)
        result = self.plugin("ADD", name, f"/proc/{os.getpid()}/fd/{made.fd}")
        self.pods[name] = made, [one["address"].partition("/")[0] for one in result["ips"]]
        return self.pods[name]

    def plugin(self, command: str, container: str, path: str) -> dict[str, Any]:
        """One execution of the plugin."""
        binaries, configurations = self.directory / "bin", self.directory / "net.d"
        if not binaries.exists():
            binaries.mkdir()
            configurations.mkdir()
            where = ["--bin-dir", str(binaries), "--conf-dir", str(configurations), "--network", "pods"]
            self.call(*PODWAY, "cni", "install", *where, *self.socket, *self.place)
        (installed,) = configurations.glob("*.conflist")
        whole = json.loads(installed.read_text())
        conf = whole["plugins"][0] | {"cniVersion": "1.0.0", "name": whole["name"]}
        environment = os.environ | {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container,
            "CNI_NETNS": path,
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(binaries),
        }
        text = self.call(str(binaries / conf["type"]), env=environment, input=json.dumps(conf))
        return json.loads(text) if text else {}


class FlannelLab:
    """``etcd`` runs from the start; nodes are added."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.machines: list[Machine] = []
        self.segment = self._own(Machine("segment", directory))
        self.segment.run("ip link add lan type bridge")
        self.segment.run("ip link set lan up")
        self.etcd = self._own(Machine("etcd", directory))
        self.plug(self.etcd, ETCD, "2001:db8::100")
        data = str(directory / "etcd-data")
        listen = [
            "--listen-client-urls",
            "http://0.0.0.0:2379",
            "--advertise-client-urls",
            f"http://{ETCD}:2379",
        ]
        peers = ["--listen-peer-urls", "http://127.0.0.1:2380", "--unsafe-no-fsync"]
        self._etcd = ["etcd", "--data-dir", data, *listen, *peers[:2]]
        self.start_etcd()
        store = open_store(f"sqlite:{directory}/store.db", create=True)
        store.close()

    def _own(self, machine: Machine) -> Any:
        self.machines.append(machine)
        return machine

    def start_etcd(self) -> None:
        """Start etcd and wait until it answers."""
        self.etcd.spawn(*self._etcd)

        def healthy() -> bool:
            with namespaces.entered(self.etcd.fd), contextlib.suppress(OSError):
                with urllib.request.urlopen(f"http://{ETCD}:2379/health", timeout=1) as answer:
                    return bool(answer.status == 200)
            return False

        until(healthy, "etcd is not healthy")

    def plug(self, machine: Machine, *addresses: str) -> None:
        """Give a machine an uplink into the segment."""
        port = f"p{len(self.machines)}"
        path = f"/proc/{os.getpid()}/fd/{machine.fd}"
        self.segment.run(f"ip link add {port} type veth peer name eth0 netns {path}")
        self.segment.run(f"ip link set {port} master lan up")
        for address in addresses:
            six = ":" in address
            machine.run(f"ip addr add {address}/{64 if six else 24} dev eth0{' nodad' if six else ''}")
        machine.run("ip link set eth0 up")
        machine.run("ip route add default via 192.0.2.254")
        # a new port of a bridge carries nothing until its carrier was noticed, up to a second later
        until(lambda: machine.reaches(ETCD), f"{machine.name} has no way to etcd")

    def flannel(self, number: int) -> FlannelNode:
        """A machine for flanneld, not started."""
        node = self._own(FlannelNode(f"f{number}", self.directory, number))
        self.plug(node, *node.addresses)
        return node  # type: ignore[no-any-return]

    def podway(self, number: int) -> PodwayNode:
        """A machine for an agent, not started."""
        node = self._own(PodwayNode(f"p{number}", self.directory, number))
        self.plug(node, *node.addresses)
        return node  # type: ignore[no-any-return]

    def configure(self, **config: Any) -> None:
        """Flannel's configuration."""
        import base64

        text = json.dumps({"Network": "10.244.0.0/16"} | config).encode()
        key = base64.b64encode(f"/{PREFIX}/config".encode()).decode()
        with namespaces.entered(self.etcd.fd):
            client = Client(parse(URL))
            client.call("/v3/kv/put", {"key": key, "value": base64.b64encode(text).decode()})
            client.close()

    @contextlib.contextmanager
    def leases(self) -> Iterator[LeaseStore]:
        """Flannel's keys, as its etcd has them."""
        with namespaces.entered(self.etcd.fd):
            store = LeaseStore(URL)
            try:
                yield store
            finally:
                store.close()

    def network(self, **spec: Any) -> None:
        """Declare Podway's network "pods" beside it."""
        whole = {
            "attach": "bridge",
            "transport": "vxlan",
            "pools": [{"cidr": "10.244.0.0/16"}],
            "interop": "flannel-etcd",
            "flannel": {"etcd": URL},
        } | spec
        store = open_store(f"sqlite:{self.directory}/store.db")
        store.create(Record(kind="Network", name="pods", spec=json.dumps(whole).encode()))
        store.close()

    def close(self) -> None:
        """End everything."""
        for machine in reversed(self.machines):
            machine.close()

"""Two Ethernet segments, nodes with real agents on them, and a router between that answers for both sides."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from podway.agent.reports import PeerPath
from podway.kernel import namespaces
from podway.model.errors import Unavailable
from podway.observe import client
from podway.store import Record, open_store

PATIENCE = 30.0
POOLS = [{"cidr": "10.244.0.0/16"}, {"cidr": "fd00:10:244::/48"}]


class Machine:
    """A network namespace."""

    def __init__(self) -> None:
        self.fd = namespaces.create()
        self.run("ip", "link", "set", "lo", "up")

    def enter(self, *command: str) -> list[str]:
        """The command line that runs ``command`` here; its process needs ``fd``."""
        return ["nsenter", f"--net=/proc/self/fd/{self.fd}", "--", *command]

    def run(self, *command: str, check: bool = True) -> str:
        """stdout of a command."""
        done = subprocess.run(
            self.enter(*command), pass_fds=[self.fd], check=check, capture_output=True, text=True
        )
        return done.stdout

    def close(self) -> None:
        """Let go of the namespace."""
        os.close(self.fd)


class Node(Machine):
    """A node ``name`` with 192.0.2.NUMBER and 2001:db8::NUMBER on its uplink up0."""

    def __init__(self, segments: Segments, name: str, number: int) -> None:
        super().__init__()
        self.name, self.number = name, number
        self.directory = segments.directory / name
        self.directory.mkdir()
        self.socket = self.directory / "cni.sock"
        self._store = segments.url
        self._agent: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        """Start its agent."""
        state = str(self.directory / "state")
        command = [sys.executable, "-m", "podway", "agent", "--node", self.name, "--store", self._store]
        command += ["--state-dir", state, "--socket", str(self.socket), "--listen", "", *options]
        with open(self.directory / "log", "ab") as log:
            self._agent = subprocess.Popen(self.enter(*command), pass_fds=[self.fd], stderr=log)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End its agent; the kernel goes on."""
        if self._agent is not None:
            self._agent.send_signal(number)
            self._agent.wait(PATIENCE)
            self._agent = None

    def peers(self) -> dict[tuple[str, int], PeerPath]:
        """Its agent's view, by peer and family; nothing while it doesn't answer."""
        try:
            found = client.choices(str(self.socket.with_name("agent.sock")))
        except Unavailable:
            return {}
        return {(one.peer, one.family): one for one in found}

    def until(self, peer: str, path: str, words: str = "", family: int = 4) -> PeerPath:
        """Wait until ``peer`` is reached by ``path`` for a reason with ``words``."""
        deadline = time.monotonic() + PATIENCE
        while True:
            one = self.peers().get((peer, family))
            if one is not None and one.path == path and words in f"{one.reason} {one.trouble}":
                return one
            assert time.monotonic() < deadline, (self.name, one, self.log())
            time.sleep(0.02)

    def podway(self, *command: str) -> str:
        """stdout of a command that asks this node's agent."""
        environment = os.environ | {"PODWAY_NODE": self.name, "PODWAY_SOCKET": str(self.socket)}
        call = [sys.executable, "-m", "podway", *command]
        return subprocess.run(call, env=environment, capture_output=True, text=True, check=False).stdout

    def shown(self, words: str, *command: str) -> str:
        """stdout of a command that asks this node's agent, once it has ``words``."""
        deadline = time.monotonic() + PATIENCE
        while words not in (found := self.podway(*command)):
            assert time.monotonic() < deadline, (found, self.log())
            time.sleep(0.05)
        return found

    def log(self) -> str:
        """What its agent said."""
        return (self.directory / "log").read_text()

    def goes(self, peer: Node, dev: str, family: int = 4) -> None:
        """Wait until the kernel's route to a pod of ``peer`` leaves by ``dev``."""
        deadline = time.monotonic() + PATIENCE
        while True:
            found = self.run("ip", f"-{family}", "route", "get", gateway(peer, family), check=False)
            if re.search(rf" dev {dev}", found):
                return
            assert time.monotonic() < deadline, (self.name, found, self.peers(), self.log())
            time.sleep(0.02)


class Segments:
    """``lan`` and ``far``, two bridges in ``switch``; nodes begin on ``lan``."""

    def __init__(self, directory: Path, **spec: object) -> None:
        self.directory = directory
        self.url = f"sqlite:{directory}/store.db"
        self.switch = Machine()
        for name in ("lan", "far"):
            self.switch.run("ip", "link", "add", name, "type", "bridge")
            self.switch.run("ip", "link", "set", name, "up")
        self.router: Machine | None = None
        self.nodes: dict[str, Node] = {}
        self.attach = str(spec.get("attach", "bridge"))
        store = open_store(self.url, create=True)
        network = {"pools": POOLS} | spec
        store.create(Record(kind="Network", name="pods", spec=json.dumps(network).encode()))
        store.close()

    def close(self) -> None:
        """End all agents and let go of the namespaces."""
        for node in self.nodes.values():
            node.stop(signal.SIGKILL)
            node.close()
        if self.router is not None:
            self.router.close()
        self.switch.close()

    def plug(self, machine: Machine, link: str, port: str, segment: str = "lan") -> None:
        """Connect ``machine`` by ``link`` to a segment."""
        path = f"/proc/{os.getpid()}/fd/{machine.fd}"
        self.switch.run("ip", "link", "add", port, "type", "veth", "peer", "name", link, "netns", path)
        self.switch.run("ip", "link", "set", port, "master", segment, "up")
        machine.run("ip", "link", "set", link, "up")

    def node(self, name: str, segment: str = "lan") -> Node:
        """A new node, with a block of each family, without an agent."""
        number = len(self.nodes) + 1
        node = self.nodes[name] = Node(self, name, number)
        self.plug(node, "up0", f"to-{name}", segment)
        node.run("ip", "address", "add", f"192.0.2.{number}/24", "dev", "up0")
        node.run("ip", "address", "add", f"2001:db8::{number}/64", "dev", "up0", "nodad")
        block = json.dumps({"network": "pods", "node": name, "attach": self.attach}).encode()
        four, six = (24, 64) if self.attach == "bridge" else (26, 122)
        if self.attach == "routed":  # in place of a pod
            for address in (f"{gateway(node)}/32", f"{gateway(node, 6)}/128"):
                node.run("ip", "address", "add", address, "dev", "lo")
        store = open_store(self.url)
        for cidr in (f"10.244.{number}.0/{four}", f"fd00:10:244:{number}::/{six}"):
            store.create(Record(kind="Block", name=cidr, spec=block))
        store.close()
        return node

    def move(self, node: Node, segment: str) -> None:
        """Plug a node's uplink into another segment, behind the router or away from it."""
        self.switch.run("ip", "link", "set", f"to-{node.name}", "master", segment)
        if self.router is not None:
            here, there = ("lan0", "far0") if segment == "lan" else ("far0", "lan0")
            for address in (f"192.0.2.{node.number}/32", f"2001:db8::{node.number}/128"):
                self.router.run("ip", "route", "replace", address, "dev", here)
            proxied = ("neighbour", "del", "proxy", f"2001:db8::{node.number}", "dev")
            self.router.run("ip", *proxied, here, check=False)
            self.router.run("ip", *(word.replace("del", "add") for word in proxied), there, check=False)

    def route_between(self) -> None:
        """A router that answers for everybody on the other side: proxy ARP, proxied neighbour discovery."""
        self.router = Machine()
        for port, segment in (("lan0", "lan"), ("far0", "far")):
            self.plug(self.router, port, f"to-router-{segment}"[:15], segment)
            for setting in (
                "ipv4/conf/{}/proxy_arp=1",
                "ipv4/neigh/{}/proxy_delay=0",
                "ipv6/neigh/{}/proxy_delay=0",
            ):
                self.set(self.router, setting.format(port))
            self.set(self.router, f"ipv6/conf/{port}/proxy_ndp=1")
        for setting in ("ipv4/ip_forward=1", "ipv6/conf/all/forwarding=1"):
            self.set(self.router, setting)
        for node in self.nodes.values():
            self.move(node, "lan")

    @staticmethod
    def set(machine: Machine, setting: str) -> None:
        """A sysctl below net/."""
        path, _, value = setting.partition("=")
        with namespaces.entered(machine.fd):
            Path("/proc/sys/net", path).write_text(value)

    def change(self, change: Callable[[dict[str, object]], None]) -> None:
        """Edit the network's spec."""
        store = open_store(self.url)
        record = store.get("Network", "pods")
        spec = json.loads(record.spec)
        change(spec)
        store.update_spec(
            Record(kind="Network", name="pods", spec=json.dumps(spec).encode(), version=record.version)
        )
        store.close()


def gateway(node: Node, family: int = 4) -> str:
    """The gateway of a node's block: an address of its pods' network that always stands."""
    return f"10.244.{node.number}.1" if family == 4 else f"fd00:10:244:{node.number}::1"


def reaches(node: Node, peer: Node, family: int = 4, count: int = 1) -> bool:
    """Whether packets go there and back between addresses of the two blocks."""
    command = [
        "ping",
        "-c",
        str(count),
        "-i",
        "0.05",
        "-W",
        "2",
        "-I",
        gateway(node, family),
        gateway(peer, family),
    ]
    shown = node.run(*command, check=False)
    return " 0% packet loss" in shown

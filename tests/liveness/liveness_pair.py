"""Two nodes with agents on a segment that a test can damage: a bridge in a third namespace."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import http.client
import ipaddress
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from podway.kernel import namespaces
from podway.store import Record, open_store

PATIENCE = 120.0
SIOCETHTOOL, ETHTOOL_STXCSUM = 0x8946, 0x17  # linux/sockios.h, linux/ethtool.h
ADDRESSES = {"a": ("192.0.2.1/24", "2001:db8::1/64"), "b": ("192.0.2.2/24", "2001:db8::2/64")}
ROUTED_ADDRESSES = ADDRESSES | {"b": ("198.51.100.2/24", "2001:db8::2/64")}
BLOCKS = {
    "bridge": {"a": ("10.244.1.0/24", "fd00:10:244:1::/64"), "b": ("10.244.2.0/24", "fd00:10:244:2::/64")},
    "routed": {
        "a": ("10.244.1.0/26", "fd00:10:244::100/122"),
        "b": ("10.244.2.0/26", "fd00:10:244::200/122"),
    },
}
NETWORK = {"transport": "vxlan", "pools": [{"cidr": "10.244.0.0/16"}, {"cidr": "fd00:10:244::/48"}]}


class Pair:
    """Nodes a and b; their uplinks eth0 are ports to-a and to-b of bridge lan in the namespace ``middle``."""

    def __init__(
        self, directory: Path, mtus: dict[str, int] | None = None, router: bool = False, **spec: Any
    ) -> None:
        self.directory = directory
        self.mtus = mtus or {}
        self.addresses = ROUTED_ADDRESSES if router else ADDRESSES
        self.pods: dict[str, int] = {}
        self.url = f"sqlite:{directory}/store.db"
        self.middle = namespaces.create()
        self.nodes = {name: namespaces.create() for name in ADDRESSES}
        self.agents: dict[str, subprocess.Popen[bytes]] = {}
        self._store(NETWORK | spec)
        self.run(self.middle, "ip link add lan type bridge mcast_snooping 0")
        self.run(self.middle, "ip link set lan up")
        for name in ADDRESSES:
            self._wire(name)
            if router:
                self._route(name)

    def _store(self, spec: dict[str, Any]) -> None:
        with contextlib.closing(open_store(self.url, create=True)) as store:
            store.create(Record(kind="Network", name="pods", spec=json.dumps(spec).encode()))
            attach = spec.get("attach", "bridge")
            for node, cidrs in BLOCKS[attach].items():
                for cidr in cidrs:
                    block = {"network": "pods", "node": node, "attach": attach}
                    store.create(Record(kind="Block", name=cidr, spec=json.dumps(block).encode()))

    def _wire(self, name: str) -> None:
        path = f"/proc/{os.getpid()}/fd/{self.nodes[name]}"
        mtu = self.mtus.get(name, 1500)
        self.run(
            self.middle, f"ip link add to-{name} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {path}"
        )
        self.run(self.middle, f"ip link set to-{name} master lan up")
        self.run(name, "ip link set lo up")
        four, six = self.addresses[name]
        self.run(name, f"ip address add {four} dev eth0")
        self.run(name, f"ip address add {six} dev eth0 nodad")
        self.run(name, "ip link set eth0 up")

    def _route(self, name: str) -> None:
        """Instead of the bridge, the middle is a router between two segments."""
        router = str(ipaddress.ip_interface(self.addresses[name][0]).network[254])
        self.run(self.middle, f"ip link set to-{name} nomaster")
        self.run(self.middle, f"ip address add {router}/24 dev to-{name}")
        self.run(self.middle, "sysctl -qw net.ipv4.ip_forward=1")
        self.run(name, f"ip route add default via {router}")

    def run(self, where: str | int, command: str, stdin: str | None = None) -> str:
        """stdout of a command that must succeed, in a node's namespace or another."""
        with namespaces.entered(self.nodes[where] if isinstance(where, str) else where):
            done = subprocess.run(command.split(), capture_output=True, text=True, input=stdin)
        assert done.returncode == 0, (command, done.stderr)
        return done.stdout

    def real_frames(self, node: str) -> None:
        """A veth leaves checksums and segmenting to a hardware that there is none of: from now on the kernel
        does both, and what is on the wire is what would be on a cable."""
        with (
            namespaces.entered(self.nodes[node]),
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_one,
        ):
            value = ctypes.create_string_buffer(struct.pack("II", ETHTOOL_STXCSUM, 0))
            fcntl.ioctl(any_one, SIOCETHTOOL, struct.pack("16sP", b"eth0", ctypes.addressof(value)))

    @contextlib.contextmanager
    def damaged(self, rule: str) -> Iterator[None]:
        """A rule for what the segment forwards, in nft's words, for the body."""
        hook = "type filter hook forward priority filter"
        self.run(self.middle, "nft -f -", f"table bridge damage {{ chain c {{ {hook}; {rule}; }}; }}")
        try:
            yield
        finally:
            self.run(self.middle, "nft delete table bridge damage")

    def environment(self, node: str) -> dict[str, str]:
        """What makes commands speak of a node."""
        return os.environ | {
            "PODWAY_NODE": node,
            "PODWAY_STORE": self.url,
            "PODWAY_STATE_DIR": str(self.directory / f"state-{node}"),
            "PODWAY_SOCKET": str(self.directory / node / "cni.sock"),
        }

    def start(self, node: str) -> None:
        """Start a node's agent, and wait for nothing."""
        (self.directory / node).mkdir(exist_ok=True)
        with namespaces.entered(self.nodes[node]):
            self.agents[node] = subprocess.Popen(
                [sys.executable, "-m", "podway", "agent", "--listen", "127.0.0.1:9177"],
                env=self.environment(node),
                stderr=(self.directory / f"{node}.log").open("ab"),
            )

    def kill(self, node: str, number: int = signal.SIGKILL) -> None:
        """End a node's agent."""
        self.agents[node].send_signal(number)
        self.agents.pop(node).wait(PATIENCE)

    def pod(self, node: str) -> int:
        """A pod on a node, attached by the installed executable: its namespace. Ended with the pair."""
        where = self.directory / f"cni-{node}"
        if not where.exists():
            for path in (where / "bin", where / "net.d"):
                path.mkdir(parents=True)
            places = ["--bin-dir", str(where / "bin"), "--conf-dir", str(where / "net.d")]
            done = self.podway(node, "cni", "install", *places, "--network", "pods")
            assert done.returncode == 0, done.stderr
        (installed,) = (where / "net.d").glob("*.conflist")
        whole = json.loads(installed.read_text())
        name = f"{node}{len(self.pods)}"
        self.pods[name] = namespaces.create()
        call = {
            "CNI_COMMAND": "ADD",
            "CNI_CONTAINERID": name,
            "CNI_IFNAME": "eth0",
            "CNI_NETNS": f"/proc/{os.getpid()}/fd/{self.pods[name]}",
            "CNI_PATH": str(where / "bin"),
        }
        with namespaces.entered(self.nodes[node]):
            done = subprocess.run(
                [str(where / "bin" / whole["plugins"][0]["type"])],
                input=json.dumps(whole["plugins"][0] | {"cniVersion": "1.0.0", "name": whole["name"]}),
                env=os.environ | call,
                capture_output=True,
                text=True,
            )
        assert done.returncode == 0, done.stdout
        return self.pods[name]

    def podway(self, node: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command about a node, in its namespace."""
        with namespaces.entered(self.nodes[node]):
            return subprocess.run(
                [sys.executable, "-m", "podway", *arguments],
                env=self.environment(node),
                capture_output=True,
                text=True,
            )

    def peer(self, node: str) -> dict[str, Any]:
        """What a node's agent knows of its one peer."""
        done = self.podway(node, "get", "peers", "-o", "json")
        found = [] if done.returncode else json.loads(done.stdout)
        return found[0] if found else {"verdict": "", "title": done.stderr, "reason": "", "paths": []}

    def until(self, node: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Until what a node knows of its peer is so."""
        deadline = time.monotonic() + PATIENCE
        while not holds(found := self.peer(node)):
            assert time.monotonic() < deadline, found
            time.sleep(0.2)
        return found

    def until_title(self, node: str, title: str) -> dict[str, Any]:
        """Until the verdict on the peer has this title."""
        return self.until(node, lambda peer: bool(peer["title"] == title))

    def page(self, node: str, path: str) -> str:
        """A page of a node's agent, whatever its status code."""
        connection = http.client.HTTPConnection("127.0.0.1:9177", timeout=PATIENCE)
        with namespaces.entered(self.nodes[node]):
            connection.connect()
        with contextlib.closing(connection):
            connection.request("GET", path)
            return connection.getresponse().read().decode()

    def until_output(self, node: str, command: str, words: str, absent: bool = False) -> str:
        """Until a command in a node's namespace prints some words, or doesn't any more; what it prints."""
        deadline = time.monotonic() + PATIENCE
        while (words in (found := self.run(node, command))) == absent:
            assert time.monotonic() < deadline, found
            time.sleep(0.1)
        return found

    def close(self) -> None:
        """End the agents and let go of the namespaces."""
        for node in list(self.agents):
            self.kill(node)
        for fd in (self.middle, *self.nodes.values(), *self.pods.values()):
            os.close(fd)

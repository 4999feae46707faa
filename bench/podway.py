"""Podway under measure: a node's agent, its network, the installed plugin."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.chain import Attachment, Chain
from bench.host import Host, ended

# What the installed script does; its first line could not hold a long path.
PODWAY = [sys.executable, "-c", "from podway.cli.main import main; main()"]


class Node:
    """One node: its namespace, its files, its agent once started."""

    def __init__(self, host: Host, directory: Path, store: str, name: str = "") -> None:
        self.host = host
        self.name = name or host.name
        self.directory = directory
        self.store = store
        self.socket = directory / f"{self.name}.sock"
        self.place = ["--node", self.name, "--store", store, "--state-dir", str(directory / self.name)]

    def podway(self, *arguments: str) -> str:
        """Standard output of a ``podway`` command in the node's namespace."""
        return self.host.call(*PODWAY, *arguments)

    def apply(self, *documents: dict[str, Any]) -> None:
        """Declare resources."""
        for number, document in enumerate(documents):
            path = self.directory / f"{self.name}-{number}.json"
            path.write_text(json.dumps(document))
            self.podway("apply", "-f", str(path), "--store", self.store)

    @contextlib.contextmanager
    def agent(self) -> Iterator[tuple[int, float]]:
        """The running agent for the body: its PID, and seconds from its start until READY=1."""
        notify = self.directory / f"{self.name}.notify"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            ready.bind(str(notify))
            ready.settimeout(30)
            environment = {**os.environ, "NOTIFY_SOCKET": str(notify)}
            started = time.monotonic()
            process = self.host.spawn(
                *PODWAY, "agent", *self.place, "--socket", str(self.socket), env=environment
            )
            with ended(process):
                while b"READY=1" not in ready.recv(4096):
                    pass
                yield process.pid, time.monotonic() - started
        notify.unlink()

    def attach(self, pod: Host) -> str:
        """The address that ``pod`` got in network "pods"."""
        chain = self.chain("pods")
        with self.host.entered():
            result = chain.add(Attachment(pod.name, pod.path))
        address: str = result["ips"][0]["address"]
        return address.partition("/")[0]

    def chain(self, network: str) -> Chain:
        """The plugin as installed for ``network``."""
        binaries, configurations = self.directory / "bin", self.directory / f"net.d-{network}-{self.name}"
        for path in (binaries, configurations):
            path.mkdir(exist_ok=True)
        where = ["--bin-dir", str(binaries), "--conf-dir", str(configurations)]
        self.podway("cni", "install", *where, "--network", network, "--socket", str(self.socket), *self.place)
        (installed,) = configurations.glob("*.conflist")
        return Chain(json.loads(installed.read_text()), str(binaries))


def network(name: str, cidr: str, **spec: Any) -> dict[str, Any]:
    """A Network document; addresses may be used again at once, as the reference's may."""
    whole = {"attach": "bridge", "transport": "none", "pools": [{"cidr": cidr}], "cooldown": 0, **spec}
    return {"apiVersion": "podway.dev/v1", "kind": "Network", "metadata": {"name": name}, "spec": whole}


def node(name: str, *addresses: str) -> dict[str, Any]:
    """A Node document."""
    spec = {"addresses": list(addresses)}
    return {"apiVersion": "podway.dev/v1", "kind": "Node", "metadata": {"name": name}, "spec": spec}

"""Podway under measure: a node's agent, its network, the installed plugin."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
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
        self._chain: Chain | None = None
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

    def begin(self) -> tuple[subprocess.Popen[bytes], Callable[[], None]]:
        """The agent's process, just started, and a function that waits for its READY=1."""
        notify = self.directory / f"{self.name}.notify"
        notify.unlink(missing_ok=True)
        ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        ready.bind(str(notify))
        ready.settimeout(120)
        place = [*self.place, "--socket", str(self.socket)]
        environment = {**os.environ, "NOTIFY_SOCKET": str(notify)}
        process = self.host.spawn(*PODWAY, "agent", *place, env=environment)

        def wait() -> None:
            with ready:
                while b"READY=1" not in ready.recv(4096):
                    pass

        return process, wait

    @contextlib.contextmanager
    def agent(self) -> Iterator[tuple[int, float]]:
        """The running agent for the body: its PID, and seconds from its start until READY=1."""
        started = time.monotonic()
        process, wait = self.begin()
        with ended(process):
            wait()
            yield process.pid, time.monotonic() - started

    def attach(self, pod: Host) -> str:
        """The address that ``pod`` got in network "pods"."""
        chain = self._chain or self.install("pods")
        with self.host.entered():
            result = chain.add(Attachment(pod.name, pod.path))
        address: str = result["ips"][0]["address"]
        return address.partition("/")[0]

    def install(self, network: str) -> Chain:
        """The plugin, as it is installed before an agent is started."""
        self._chain = self.chain(network)
        return self._chain

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

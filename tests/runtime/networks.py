"""The networks that a runtime is given here: the reference's chain, and Podway's own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest
from containerd import wait_for
from machine import Machine

# What the installed script does; its first line could not hold a long path.
PODWAY = [sys.executable, "-c", "from podway.cli.main import main; main()"]
REFERENCE_PLUGINS = Path("/usr/lib/cni")
REFERENCE: dict[str, Any] = {
    "cniVersion": "1.0.0",
    "name": "reference",
    "plugins": [
        {
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": True,
            "ipMasq": True,
            "hairpinMode": True,
            "capabilities": {"ips": True},
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": "10.97.0.0/24"}], [{"subnet": "fd00:97::/64"}]],
                "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
            },
        },
        {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True},
    ],
}
# The whole chain as Kubernetes distributions write it.
CHAIN = {
    **REFERENCE,
    "plugins": [
        *REFERENCE["plugins"],
        {"type": "bandwidth", "capabilities": {"bandwidth": True}},
        {"type": "firewall"},
        {"type": "tuning", "sysctl": {"net.ipv4.conf.IFNAME.arp_notify": "1"}},
    ],
}
NETWORK = """
apiVersion: podway.dev/v1
kind: Network
metadata: {name: pods}
spec:
  preset: docker
  pools: [{cidr: 10.98.0.0/16}, {cidr: "fd00:98::/48"}]
  cooldown: 0
---
apiVersion: podway.dev/v1
kind: Network
metadata: {name: two}
spec:
  preset: docker
  pools: [{cidr: 10.99.0.0/16}, {cidr: "fd00:99::/48"}]
  cooldown: 0
---
apiVersion: podway.dev/v1
kind: Node
metadata: {name: one}
spec: {addresses: [198.51.100.2/24, "2001:db8:51::2/64"]}
"""


class Runtime(Protocol):
    """What a network is installed for."""

    machine: Machine
    bin_dir: Path
    conf_dir: Path

    def wait_network(self) -> None:
        """Wait until the runtime has taken a configuration in."""


def install_reference(runtime: Runtime, conflist: Mapping[str, object] = REFERENCE) -> None:
    """Give ``runtime`` the reference plugins and ``conflist``."""
    for plugin in REFERENCE_PLUGINS.iterdir():
        (runtime.bin_dir / plugin.name).symlink_to(plugin)
    (runtime.conf_dir / f"10-{conflist['name']}.conflist").write_text(json.dumps(conflist))
    runtime.wait_network()


class Reference:
    """The reference plugins behind ``CHAIN``: what fails with them is the test's fault."""

    name = file = "reference"
    database: Path | None = None

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime

    def install(self) -> None:
        """Executables and configuration."""
        install_reference(self.runtime, CHAIN)

    def start(self) -> None:
        """Nothing of it runs."""

    ensure_running = start

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Nothing of it runs."""


class Podway:
    """An agent in the machine of ``runtime``, and the plugin that it serves."""

    name, file = "pods", "podway-pods"

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.machine = runtime.machine
        self.directory = self.machine.directory / "podway"
        self.directory.mkdir()
        self.store = f"sqlite:{self.directory}/store.db"
        self.database: Path | None = self.directory / "state" / "node.db"
        self.socket = self.directory / "cni.sock"
        self._process: subprocess.Popen[bytes] | None = None

    def podway(self, *arguments: str) -> str:
        """Standard output of a ``podway`` command inside the machine."""
        return self.machine.run(*PODWAY, *arguments)

    @property
    def _place(self) -> list[str]:
        return ["--node", "one", "--store", self.store, "--state-dir", f"{self.directory}/state"]

    def install(self) -> None:
        """Declare the network, start the agent, install executable and conflist."""
        document = self.directory / "network.yaml"
        document.write_text(NETWORK)
        self.podway("apply", "-f", str(document), "--store", self.store)
        self.start()
        self.install_network("pods")
        self.runtime.wait_network()

    def install_network(self, name: str) -> None:
        """Executable and conflist of one of the networks that ``install`` declares."""
        where = ["--bin-dir", str(self.runtime.bin_dir), "--conf-dir", str(self.runtime.conf_dir)]
        self.podway("cni", "install", *where, "--network", name, "--socket", str(self.socket), *self._place)

    def start(self) -> None:
        """Start the agent; returns when its socket answers."""
        self._process = self.machine.spawn(
            *PODWAY, "agent", "--socket", str(self.socket), *self._place,
            log="agent.log",
        )  # fmt: skip
        wait_for("the agent", self._listens)

    def _listens(self) -> bool:
        import socket

        assert self._process is not None
        assert self._process.poll() is None, (self.machine.directory / "agent.log").read_text()
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.socket)) == 0

    def ensure_running(self) -> None:
        """Start the agent unless it runs."""
        if self._process is None:
            self.start()

    def send(self, number: int) -> None:
        """A signal to the agent."""
        assert self._process is not None
        self.machine.signal(self._process, number)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End the agent by ``number``."""
        if self._process is None:
            return
        self.machine.signal(self._process, number)
        self._process.wait(timeout=30)
        self._process = None


class DropIn(Podway):
    """The reference's names, served by Podway, behind the same ``CHAIN``."""

    name = file = "reference"

    def __init__(self, runtime: Runtime, conflist: Mapping[str, object] = CHAIN) -> None:
        super().__init__(runtime)
        self._conflist = conflist

    def install(self) -> None:
        """Take the place of the reference plugins, as ``podway cni install --drop-in`` does."""
        self.start()
        install_reference(self.runtime, self._conflist)
        where = ["--bin-dir", str(self.runtime.bin_dir), "--socket", str(self.socket), *self._place]
        self.podway("cni", "install", "--drop-in", "--replace", *where)


NETWORKS: dict[str, type[Reference] | type[Podway]] = {
    "reference": Reference,
    "podway": Podway,
    "drop-in": DropIn,
}
#: the reference plugins prove nothing of ours: they run when the tests themselves are in doubt
PARAMETERS = [pytest.param(name, marks=pytest.mark.soak if name == "reference" else ()) for name in NETWORKS]

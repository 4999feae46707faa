"""The two networks that a runtime is given here: Debian's reference bridge, and Podway's."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from containerd import Containerd, wait_for

# What the installed script does; its first line could not hold a long path.
PODWAY = [sys.executable, "-c", "from podway.cli.main import main; main()"]
REFERENCE_PLUGINS = Path("/usr/lib/cni")
REFERENCE = {
    "cniVersion": "1.0.0",
    "name": "reference",
    "plugins": [
        {
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": True,
            "ipMasq": True,
            "hairpinMode": True,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": "10.97.0.0/24"}], [{"subnet": "fd00:97::/64"}]],
                "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
            },
        },
        {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True},
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
kind: Node
metadata: {name: one}
spec: {addresses: [198.51.100.2/24, "2001:db8:51::2/64"]}
"""


def install_reference(daemon: Containerd, conflist: Mapping[str, object] = REFERENCE) -> None:
    """Give ``daemon`` the reference plugins and ``conflist``."""
    for plugin in REFERENCE_PLUGINS.iterdir():
        (daemon.bin_dir / plugin.name).symlink_to(plugin)
    (daemon.conf_dir / "10-reference.conflist").write_text(json.dumps(conflist))
    daemon.wait_network()


class Podway:
    """An agent in the machine of ``daemon``, and the plugin that it serves."""

    def __init__(self, daemon: Containerd) -> None:
        self.daemon = daemon
        self.machine = daemon.machine
        self.directory = self.machine.directory / "podway"
        self.directory.mkdir()
        self.store = f"sqlite:{self.directory}/store.db"
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
        where = ["--bin-dir", str(self.daemon.bin_dir), "--conf-dir", str(self.daemon.conf_dir)]
        self.podway("cni", "install", *where, "--network", "pods", "--socket", str(self.socket), *self._place)
        # The runtime runs the reference's loopback beside every network.
        if not (self.daemon.bin_dir / "loopback").exists():
            (self.daemon.bin_dir / "loopback").symlink_to(REFERENCE_PLUGINS / "loopback")
        self.daemon.wait_network()

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

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End the agent by ``number``."""
        if self._process is None:
            return
        self.machine.signal(self._process, number)
        self._process.wait(timeout=30)
        self._process = None

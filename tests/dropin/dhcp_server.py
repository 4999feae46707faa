"""A real DHCP server (dnsmasq) in a namespace of its own, on the bridge that pods are put into."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from bench.built import built
from dropin_lab import Lab, wait_for

from bench import reference

BRIDGE, SERVER = "lan0", "10.61.0.1"


class Dhcpd:
    """At ``link`` in a namespace, for the 256 addresses of a network. ``options``: further ones of dnsmasq's;
    a range and its lease time go with ``start``."""

    def __init__(self, namespace: str, directory: Path, link: str = "srv0", network: str = "10.61.0") -> None:
        self.namespace, self._directory = namespace, directory
        self._link, self._network = link, network
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, first: int = 50, *options: str, lease: str = "120") -> None:
        """Serve ten addresses from the network's ``first`` on; a lease is two minutes at least."""
        served = f"{self._network}.{first},{self._network}.{first + 9},255.255.255.0,{lease}"
        own = ["--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--no-ping", "--log-dhcp"]
        own += [
            "--bind-dynamic",
            f"--interface={self._link}",
            f"--dhcp-leasefile={self._directory}/leases",
            "--user=root",
        ]
        own += [f"--pid-file={self._directory}/dnsmasq.pid", f"--log-facility={self._directory}/dnsmasq.log"]
        command = ["ip", "netns", "exec", self.namespace, "dnsmasq", *own, f"--dhcp-range={served}", *options]
        before = self.log.count("DHCP, IP range")
        self._process = subprocess.Popen(command)
        wait_for(lambda: self.log.count("DHCP, IP range") > before, "dnsmasq serves")

    def stop(self) -> None:
        """Be away."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait()
            self._process = None

    @property
    def log(self) -> str:
        """What it says of each message."""
        with contextlib.suppress(FileNotFoundError):
            return (self._directory / "dnsmasq.log").read_text()
        return ""

    def said(self, what: str) -> int:
        """How often."""
        return self.log.count(what)

    @property
    def leases(self) -> list[str]:
        """The addresses that are lent."""
        path = self._directory / "leases"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line.split()[2] for line in lines]


@contextlib.contextmanager
def segment(directory: Path) -> Iterator[Dhcpd]:
    """An operator's bridge ``lan0`` in this namespace with a server behind it, which isn't started."""
    name = f"dhcpd{os.getpid()}"
    server = Dhcpd(name, directory)
    try:
        for command in (
            f"ip netns add {name}",
            f"ip link add {BRIDGE} address 02:61:00:00:00:01 type bridge",
            f"ip link add srv9 type veth peer srv0 netns {name}",
            f"ip link set srv9 master {BRIDGE} up",
            f"ip link set {BRIDGE} up",
            f"ip -n {name} addr add {SERVER}/24 dev srv0",
            f"ip -n {name} link set srv0 up",
        ):
            subprocess.run(command.split(), check=True)
        yield server
    finally:
        server.stop()
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


@contextlib.contextmanager
def theirs(lab: Lab) -> Iterator[None]:
    """The reference plugins and their daemon instead of ours."""
    directory = built(reference.NAME, reference.MODULE, reference.PROOF)
    path, lab.path = lab.path, str(directory)
    socket = f"{lab.directory}/dhcp.sock"
    daemon = subprocess.Popen([f"{directory}/dhcp", "daemon", "-socketpath", socket])
    try:
        wait_for(lambda: Path(socket).exists(), "the daemon listens")
        yield
    finally:
        lab.path = path
        daemon.kill()
        daemon.wait()
        Path(socket).unlink(missing_ok=True)

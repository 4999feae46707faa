"""Firewalls of other software, real ones, in a test's network namespace; and packets that try to pass."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from dropin_lab import PATIENCE, wait_for

from podway.kernel import namespaces

BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>custom</type><listen>unix:path={0}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/>
<allow own="*"/></policy></busconfig>
"""


def run(*command: str, env: dict[str, str] | None = None) -> str:
    """Its output; raises CalledProcessError."""
    return subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout


class Firewalld:
    """firewalld with a bus and a configuration of its own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.configuration = directory / "etc"  # the permanent one
        self.bus = f"unix:path={directory}/bus"  # its address
        self._env = os.environ | {"DBUS_SYSTEM_BUS_ADDRESS": self.bus}
        self._process: subprocess.Popen[bytes] | None = None

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """From ready to ended."""
        self.configuration.mkdir(exist_ok=True)
        (self._directory / "bus.conf").write_text(BUS.format(self._directory / "bus"))
        (self._directory / "bus").unlink(missing_ok=True)
        with (self._directory / "output").open("a") as output:
            command = ["dbus-daemon", f"--config-file={self._directory}/bus.conf", "--nofork"]
            bus = subprocess.Popen(command, stdout=output, stderr=output)
            try:
                wait_for((self._directory / "bus").exists, "a bus")
                options = [f"--log-file={self._directory}/log", f"--system-config={self.configuration}"]
                command = ["firewalld", "--nofork", "--nopid", *options]
                self._process = subprocess.Popen(command, env=self._env, stdout=output, stderr=output)
                wait_for(lambda: self.ask("--state"), "firewalld")
                yield
            finally:
                self.end()
                bus.terminate()
                bus.wait(PATIENCE)

    def end(self) -> None:
        """Stop it, and leave the bus."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(PATIENCE)
            self._process = None

    def send(self, number: int) -> None:
        """A signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def ask(self, *arguments: str) -> bool:
        """Whether firewall-cmd succeeds."""
        return self._command(*arguments).returncode == 0

    def said(self, *arguments: str) -> str:
        """What firewall-cmd prints. Raises CalledProcessError."""
        done = self._command(*arguments)
        done.check_returncode()
        return done.stdout

    def _command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["firewall-cmd", *arguments]
        return subprocess.run(command, env=self._env, capture_output=True, text=True, check=False)


class Ufw:
    """ufw with a copy of its configuration, mounted over the machine's in its own mount namespace."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        shutil.copytree("/etc/ufw", directory / "etc")
        shutil.copy("/etc/default/ufw", directory / "default")

    def ask(self, *arguments: str) -> None:
        """One command; raises CalledProcessError."""
        mounts = f"mount --bind {self._directory}/etc /etc/ufw; mount --bind {self._directory}/default"
        script = f'{mounts} /etc/default/ufw; ufw "$@"'
        run("unshare", "-m", "--propagation", "private", "sh", "-ec", script, "sh", *arguments)


def reaches(pod: str, address: str, count: int = 1) -> bool:
    """Whether all echo requests of a pod are answered."""
    command = ["ip", "netns", "exec", pod, "ping", "-c", str(count), "-i0.05", "-W1", address]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def hears(client: str, server: str, address: str) -> bool:
    """Whether a datagram of pod ``client`` to ``address`` of pod ``server`` ("": the node) is answered: ufw
    lets echo requests through, whoever sends them."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with _socket(server, family) as there, _socket(client, family) as asking:
        there.bind(("", 0))
        try:
            asking.connect((address, there.getsockname()[1]))
            asking.send(b"?")
            _, source = there.recvfrom(1)
            there.sendto(b"!", source)
            return asking.recv(1) == b"!"
        except OSError:
            return False


def _socket(pod: str, family: int) -> socket.socket:
    fd = namespaces.open_namespace(f"/run/netns/{pod}" if pod else namespaces.OWN)
    try:
        with namespaces.entered(fd):
            made = socket.socket(family, socket.SOCK_DGRAM)
    finally:
        os.close(fd)
    made.settimeout(1.0)
    return made


def nft_rules() -> list[tuple[str, str]]:
    """("FAMILY TABLE CHAIN", comment) of every rule in this namespace that has one."""
    shown = json.loads(run("nft", "-j", "list", "ruleset"))["nftables"]
    rules = [one["rule"] for one in shown if "rule" in one]
    return [(f"{r['family']} {r['table']} {r['chain']}", r["comment"]) for r in rules if "comment" in r]


def passes() -> list[tuple[str, str]]:
    """Podway's among them that stand in chains of others."""
    return [(where, comment) for where, comment in nft_rules() if comment.startswith("podway:")]

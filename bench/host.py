"""Namespaces of the bench: nodes and pods by name, and commands in them."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator

from podway.kernel import namespaces

RUN = "/run/netns"


class Host:
    """A named network namespace: a node, a pod or a segment."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = f"{RUN}/{name}"
        subprocess.run(["ip", "netns", "add", name], check=True)
        self.fd = namespaces.open_namespace(self.path)

    def close(self) -> None:
        """Let go of the namespace."""
        os.close(self.fd)
        subprocess.run(["ip", "netns", "del", self.name], check=True)

    def entered(self) -> contextlib.AbstractContextManager[None]:
        """This thread, and what it spawns, in the namespace."""
        return namespaces.entered(self.fd)

    def run(self, command: str) -> str:
        """Standard output of a command, split at blanks, inside. Raises RuntimeError with its output."""
        return self.call(*command.split())

    def call(self, *arguments: str) -> str:
        """The same for separate arguments."""
        with self.entered():
            done = subprocess.run(arguments, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def spawn(self, *arguments: str, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        """A long-running command inside, silent."""
        with self.entered():
            return subprocess.Popen(
                arguments,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )


@contextlib.contextmanager
def host(name: str, up: bool = True) -> Iterator[Host]:
    """A namespace for the body, its loopback up, forwarding on."""
    made = Host(name)
    try:
        if up:
            made.run("ip link set lo up")
            made.run("sysctl -qw net.ipv4.ip_forward=1")
        yield made
    finally:
        made.close()


@contextlib.contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """A process for the body, killed and reaped after it."""
    try:
        yield process
    finally:
        process.kill()
        process.wait()

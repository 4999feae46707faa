"""Two network namespaces joined by a link, a real BIRD in the first, and whatever in the second."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from podway.bird.process import BirdProcess
from podway.bird.render import render
from podway.kernel import namespaces
from podway.model.bgp import Speaker

NEAR4, FAR4 = "192.0.2.1", "192.0.2.2"
NEAR6, FAR6 = "2001:db8::1", "2001:db8::2"


def run(*command: str) -> str:
    """stdout of a command that must succeed."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def wait(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """What ``condition`` says once that is true."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, condition
        time.sleep(0.05)
    return found


class Pair:
    """BIRD ``a`` in the test's namespace (up0: NEAR), BIRD ``b`` or another daemon in ``far`` (up0: FAR)."""

    def __init__(self, directory: Path, near: int) -> None:
        self.directory = directory
        self.a, self.b = BirdProcess(directory / "a"), BirdProcess(directory / "b")
        self.near, self.far = near, namespaces.create()
        self._daemons: list[tuple[subprocess.Popen[bytes], bool]] = []  # and whether it is near
        run("ip", "link", "set", "lo", "up")
        path = f"/proc/{os.getpid()}/fd/{self.far}"
        run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "up0", "netns", path)
        for fd, four, six in ((near, NEAR4, NEAR6), (self.far, FAR4, FAR6)):
            with namespaces.entered(fd):
                run("ip", "link", "set", "lo", "up")
                run("ip", "address", "add", f"{four}/24", "dev", "up0")
                run("ip", "address", "add", f"{six}/64", "dev", "up0", "nodad")
                run("ip", "link", "set", "up0", "up")

    def text(self, speaker: Speaker, bird: BirdProcess) -> str:
        """The file of a speaker."""
        return render(speaker, str(bird.log))

    def do(self, action: Awaitable[Any], far: bool = False) -> Any:
        """Wait for a coroutine, in either namespace."""

        async def whole() -> Any:
            return await action

        if not far:
            return asyncio.run(whole())
        with namespaces.entered(self.far):
            return asyncio.run(whole())

    def start(self, speaker: Speaker, far: bool = False, recover: bool = False) -> None:
        """A BIRD with this configuration."""
        bird = self.b if far else self.a

        async def whole() -> None:
            text = self.text(speaker, bird)
            await bird.check(text)
            bird.install(text)
            await bird.start(recover)

        self.do(whole(), far)

    def daemon(self, *command: str, place: int = -1, **more: Any) -> subprocess.Popen[bytes]:
        """A process in a namespace, the far one unless it is said, ended with the test."""
        with namespaces.entered(self.far if place < 0 else place):
            made = subprocess.Popen(command, stdin=subprocess.DEVNULL, **more)
        self._daemons.append((made, place == self.near))
        return made

    def end_daemons(self, near: bool) -> None:
        """Kill those of the near namespace, or those of the far one."""
        for daemon, place in self._daemons:
            if place == near:
                daemon.kill()
                daemon.wait()

    def close(self) -> None:
        """End everything."""
        with namespaces.entered(self.far):
            self.b.adopt()
        self.a.adopt()
        self.a.kill()
        self.b.kill()
        self.end_daemons(near=True)
        self.end_daemons(near=False)
        os.close(self.far)

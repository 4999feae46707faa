"""BIRD as a process that outlives the agent: found, checked, started, told, ended.

It runs in the background on its own, so that an agent that is restarted finds it at work and adopts it.
A configuration becomes the file that BIRD starts with only when ``bird -p`` took it, and the BIRD that runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import time
from pathlib import Path

from podway import durable
from podway.bird.client import Client
from podway.model.errors import InvalidInput, Unavailable

OLDEST = (2, 0, 8)  # the first with "long lived graceful restart" and "receive limit" as rendered
GONE = 0.5  # seconds: a process that is just being replaced by another program shows no command line
PATIENCE = 10.0  # seconds for a run of "bird -p"
SECRET = 0o600  # passwords of sessions are in its configuration
FIX = "install the package bird2, 2.0.8 or later"


class BirdProcess:
    """The BIRD of one node, all of whose files are in ``directory``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = directory / "bird.conf"
        self.socket = directory / "bird.ctl"
        self.log = directory / "bird.log"
        self._trial = directory / "bird.conf.trial"
        self._pid_file = directory / "bird.pid"
        self.client = Client(self.socket)

    async def check(self, text: str) -> None:
        """Raises InvalidInput with BIRD's own words when it would not take ``text``."""
        self.directory.mkdir(parents=True, exist_ok=True)
        durable.replace(self._trial, text.encode(), SECRET)
        code, said = await _run(_executable(), "-p", "-c", str(self._trial))
        if code:
            raise InvalidInput(f"BIRD would not take its configuration: {said}", str(self._trial))

    async def tell(self, text: str) -> None:
        """Have the BIRD that runs take up ``text``, which becomes the installed file when it has: an agent
        that is killed in between leaves a difference, and its successor tells BIRD again. What BIRD refuses
        (InvalidInput), or does not answer to (Unavailable), replaces nothing."""
        await self.check(text)
        await self.client.configure(self._trial)
        self._trial.rename(self.file)

    async def version(self) -> str:
        """BIRD's version. Raises Unavailable when it is missing or too old, with what to do."""
        _, said = await _run(_executable(), "--version")
        match = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", said)
        if match is None or tuple(int(part or 0) for part in match.groups()) < OLDEST:
            raise Unavailable(f"this BIRD is too old: {said or 'no version'}", "BIRD", FIX)
        return match[0]

    def install(self, text: str) -> None:
        """Make ``text`` the file that BIRD starts with; password included, so nobody else may read it."""
        self.directory.mkdir(parents=True, exist_ok=True)
        durable.replace(self.file, text.encode(), SECRET)

    def installed(self) -> str:
        """What BIRD has last taken up, "" for nothing."""
        try:
            return self.file.read_text()
        except FileNotFoundError:
            return ""

    def pid(self) -> int | None:
        """The process that serves this node's control socket, None when there is none."""
        try:
            pid = int(self._pid_file.read_text())
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return None
        return pid if str(self.socket).encode() in words else None

    def adopt(self) -> int | None:
        """As ``pid``; one that was started here by an agent that died before it was written down, too."""
        found = self.pid()
        if found is None and (left := self._left()):
            found = max(left)  # the youngest: an older one is about to leave it to the background
            self._pid_file.write_text(f"{found}\n")
        return found

    def _left(self) -> list[int]:
        """Living processes of this network namespace that serve the control socket, written down or not."""
        here = os.stat("/proc/thread-self/ns/net")
        found = []
        for directory in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (directory / "cmdline").read_bytes().split(b"\0")
                ours = str(self.socket).encode() in words and b"-P" in words
                if ours and os.path.samestat((directory / "ns/net").stat(), here):
                    found.append(int(directory.name))
        return found

    async def start(self, recover: bool) -> None:
        """Start from the installed file. ``recover``: keep the kernel's routes until peers have told
        theirs again (graceful restart, RFC 4724). Raises Unavailable with what BIRD says.

        BIRD's command returns before the process in the background has written its number: taken for
        dead then, it would be started a second time, and the second would find the first one's port taken.
        """
        self.socket.unlink(missing_ok=True)
        more = ["-R"] if recover else []
        files = ["-c", str(self.file), "-s", str(self.socket), "-P", str(self._pid_file)]
        code, said = await _run(_executable(), *files, *more)
        if code:
            raise Unavailable(f"BIRD does not start: {said}", str(self.file))
        end = time.monotonic() + PATIENCE
        seen = time.monotonic()
        while self.pid() is None and time.monotonic() < end:
            now = time.monotonic()
            seen = now if self._left() else seen
            if now - seen > GONE:
                return  # it ended right away; what it said of that is in its log
            await asyncio.sleep(0.01)

    def kill(self) -> None:
        """End it at once, as a crash would: peers keep its routes, and so does the kernel."""
        pid = self.pid()
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._pid_file.unlink(missing_ok=True)

    async def end(self) -> None:
        """Close every session and take the routes away. Harmless when nothing runs."""
        if self.adopt() is None:
            return
        try:
            await self.client.shut_down()
        except (Unavailable, InvalidInput):
            self.kill()
        for _ in range(100):
            if self.pid() is None:
                return
            await asyncio.sleep(0.05)
        self.kill()


def _executable() -> str:
    found = shutil.which("bird", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        raise Unavailable("BIRD is not installed", "bird", FIX)
    return found


async def _run(*command: str) -> tuple[int, str]:
    """Exit code, and what was said on either stream in one line. Raises Unavailable where that can't be had
    now: a package being replaced, a machine that is too busy."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
    except OSError as error:
        raise Unavailable(f"BIRD can't be run: {error.strerror}", command[0], FIX) from error
    try:
        async with asyncio.timeout(PATIENCE):
            said, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise Unavailable(f"no end after {PATIENCE:.0f} s", " ".join(command)) from None
    return process.returncode or 0, " ".join(said.decode(errors="replace").split())

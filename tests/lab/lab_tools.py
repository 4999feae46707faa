"""Labs as a user starts them, and what a machine shows of them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

PODWAY = [sys.executable, "-P", "-c", "from podway.cli.main import main; main()"]
KINDS = ("net", "mnt", "pid")
BASE = Path("/run/podway/lab")
PATIENCE = 60.0


def podway(
    *arguments: str, check: int | None = 0, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    """``podway lab …``. Raises AssertionError on another exit code than ``check`` (None = any)."""
    done = subprocess.run([*PODWAY, "lab", *arguments], capture_output=True, text=True, input=stdin)
    assert check is None or done.returncode == check, f"{arguments}: {done.stdout}{done.stderr}"
    return done


def start(*arguments: str) -> subprocess.Popen[str]:
    """``podway lab …`` in the background; stderr, where progress goes, can be read."""
    return subprocess.Popen(
        [*PODWAY, "lab", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def wait_for_line(process: subprocess.Popen[str], words: str) -> None:
    """Read progress until a line with ``words``."""
    assert process.stderr is not None
    for line in process.stderr:
        if words in line:
            return
    raise AssertionError(f"{words!r} never came")


def init_of(name: str) -> int:
    """The process id of a lab's init, as its directory says."""
    return int((BASE / name / "init").read_text().split()[0])


def namespaces_of(init: int) -> frozenset[str]:
    """The namespaces that a lab is made of: its init's, its agents', and those of its names."""
    own = {os.readlink(f"/proc/{init}/ns/{kind}") for kind in KINDS}
    for path in Path(f"/proc/{init}/root/run/netns").iterdir():
        own.add(f"net:[{path.stat().st_ino}]")
    return frozenset(own)


def outside() -> dict[str, object]:
    """What this machine shows that a lab must not change."""
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    return {
        "links": sorted(line.split(":")[1] for line in links.splitlines()),
        "mounts": Path("/proc/self/mountinfo").read_text(),
        "names": sorted(os.listdir("/run/netns")) if os.path.isdir("/run/netns") else [],
    }


def left_of(namespaces: frozenset[str], name: str) -> list[str]:
    """Processes in any of a lab's namespaces, or started for it, and its directory."""
    found = [str(BASE / name)] if os.path.lexists(BASE / name) else []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (path / "cmdline").read_bytes().split(b"\0")
            mine = str(BASE / name).encode() in words
            if mine or namespaces & {os.readlink(path / "ns" / kind) for kind in KINDS}:
                found.append(f"{path.name}: {b' '.join(words).decode()}")
    return found


def wait_gone(pid: int) -> None:
    """Until a process has ended."""
    deadline = time.monotonic() + PATIENCE
    while os.path.exists(f"/proc/{pid}"):
        assert time.monotonic() < deadline, f"process {pid} lives on"
        time.sleep(0.01)


@contextlib.contextmanager
def running(name: str, *arguments: str) -> Iterator[str]:
    """A lab that is up, for the body; nothing of it may be left."""
    podway("up", "--name", name, *arguments)
    namespaces = namespaces_of(init_of(name))
    try:
        yield name
    finally:
        podway("down", name, check=None)
    assert left_of(namespaces, name) == []


def kill(process: subprocess.Popen[str], number: int = signal.SIGKILL) -> int:
    """Signal what ``start`` started; its exit code."""
    process.send_signal(number)
    code = process.wait(timeout=PATIENCE)
    assert process.stderr is not None
    process.stderr.close()
    return code

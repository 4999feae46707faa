"""Labs as a user starts them, and what a machine shows of them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from podway.lab.place import start_time

PODWAY = [sys.executable, "-P", "-c", "from podway.cli.main import main; main()"]
BASE = Path("/run/podway/lab")
PATIENCE = 60.0


def podway(
    *arguments: str, check: int | None = 0, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    """``podway lab …``. Raises AssertionError on another exit code than ``check`` (None = any)."""
    done = subprocess.run([*PODWAY, "lab", *arguments], capture_output=True, text=True, input=stdin)
    assert check is None or done.returncode == check, f"{arguments}: {done.stdout}{done.stderr}"
    return done


#: $1… with a /run of their own; 99 when they leave anything of a lab in it
PRIVATE = """mount -t tmpfs tmpfs /run
trap : INT TERM HUP
"$@"
code=$?
test ! -e /run/podway || exit 99
exit $code"""


def start(*arguments: str, private: bool = False) -> subprocess.Popen[str]:
    """``podway lab …`` in the background, as a shell's job; stderr, where progress goes, can be read."""
    return subprocess.Popen(
        [*(["unshare", "--mount", "sh", "-c", PRIVATE, "sh"] if private else []), *PODWAY, "lab", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_line(process: subprocess.Popen[str], words: str) -> None:
    """Read progress until a line with ``words``."""
    assert process.stderr is not None
    for line in process.stderr:
        if words in line:
            return
    raise AssertionError(f"{words!r} never came")


def init_of(name: str, root: str = "") -> int:
    """The process id of a lab's init, as its directory says (under another process's ``root``)."""
    return int(Path(f"{root}{BASE}/{name}/init").read_text().split()[0])


Process = tuple[int, int]  # id and start time: ids are used again, and so are inodes of namespaces


def processes_of(init: int) -> frozenset[Process]:
    """Every process in a lab's PID namespace, its init included."""
    own = os.readlink(f"/proc/{init}/ns/pid")
    found = set()
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            started = start_time(int(path.name))
            if os.readlink(path / "ns/pid") == own and started is not None:
                found.add((int(path.name), started))
    assert len(found) > 1, "an init and nobody else"
    return frozenset(found)


def networks_of(processes: Iterable[int]) -> frozenset[str]:
    """The network namespaces that processes are in, but for this one's own."""
    found = set()
    for pid in processes:
        with contextlib.suppress(OSError):
            found.add(os.readlink(f"/proc/{pid}/ns/net"))
    return frozenset(found - {os.readlink("/proc/self/ns/net")})


def wait_let_go(networks: frozenset[str]) -> None:
    """Until no process of this machine is in any of a lab's network namespaces (whose inodes, once free, may
    be another's for a while)."""
    deadline = time.monotonic() + PATIENCE
    while held := networks & networks_of(int(path.name) for path in Path("/proc").glob("[0-9]*")):
        assert time.monotonic() < deadline, held
        time.sleep(0.2)


def outside() -> dict[str, object]:
    """What this machine shows that a lab must not change."""
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    return {
        "links": sorted(line.split(":")[1] for line in links.splitlines()),
        "mounts": Path("/proc/self/mountinfo").read_text(),
        "names": sorted(os.listdir("/run/netns")) if os.path.isdir("/run/netns") else [],
    }


def wait_as_before(before: dict[str, object]) -> None:
    """Until this machine shows what it did."""
    deadline = time.monotonic() + PATIENCE
    while (now := outside()) != before:
        assert time.monotonic() < deadline, (before, now)
        time.sleep(0.2)


def left_of(processes: frozenset[Process], name: str) -> list[str]:
    """What is there still of a lab: of its processes, of others started for it, its directory."""
    found = [str(BASE / name)] if os.path.lexists(BASE / name) else []
    found += [str(pid) for pid, started in processes if start_time(pid) == started]
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (path / "cmdline").read_bytes().split(b"\0")
            if str(BASE / name).encode() in words:
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
    processes = processes_of(init_of(name))
    networks = networks_of(pid for pid, _ in processes)
    try:
        yield name
    finally:
        podway("down", "--name", name, check=None)
    assert left_of(processes, name) == []
    wait_let_go(networks)


def kill(process: subprocess.Popen[str], number: int = signal.SIGKILL) -> int:
    """Signal what ``start`` started, children and all, as a terminal does; its exit code."""
    os.killpg(process.pid, number)
    code = process.wait(timeout=PATIENCE)
    assert process.stderr is not None
    process.stderr.close()
    return code

"""What is done to a lab that is up, from inside it: faults, crashes, reboots, nodes that join and leave.

Run as ``python -m podway.lab.change NAME DIRECTORY ACTION [NODE]`` in the lab's namespaces, by
``control``, which holds the lab's lock and has written lab.json. Ends with what went wrong, as JSON.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec

from podway.lab.agents import PODWAY, Agents
from podway.lab.attach import Runtime
from podway.lab.place import BOOT_ID, NAMESPACES, Place
from podway.lab.wiring import plug_in, set_faults, unplug
from podway.model.errors import PodwayError, Unavailable

GOODBYE = 10.0  # seconds that an agent has to end when its node leaves
DEATH = 10.0
PAUSE = 0.01


class Complaint(msgspec.Struct, frozen=True, kw_only=True):
    """A PodwayError on its way out of the lab; ``what`` "" is success."""

    what: str = ""
    where: str = ""
    fix: str = ""


class Change:
    """One action on one lab."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._saved = place.saved()
        self._topology = self._saved.topology

    def faults(self, _: str) -> None:
        """Exactly the faults of lab.json."""
        set_faults(self._topology, self._saved.faults)

    def crash(self, node: str) -> None:
        """A power cut: every process at once, then what was in the kernel. Its disk stays."""
        machine = self._topology.machine(node)
        kill(lambda: processes((node, *machine.pods)), signal.SIGKILL, DEATH)
        unplug(machine)
        for socket in self._place.node(node).glob("*.sock"):
            socket.unlink()  # /run is empty after a boot

    def boot(self, node: str) -> None:
        """Power: links, agent, and pods as a runtime starts them again. It is another boot than before."""
        machine = self._topology.machine(node)
        plug_in(self._topology, [machine])
        (self._place.node(node) / BOOT_ID).write_text(f"{uuid.uuid4()}\n")
        self._start(node)

    def join(self, node: str) -> None:
        """A new machine, which has never been booted before."""
        plug_in(self._topology, [self._topology.machine(node)])
        self._start(node)

    def _start(self, node: str) -> None:
        agents = Agents(self._place, self._topology, [node])
        agents.start()
        agents.install()
        agents.wait(lambda _: None)
        pods = [(node, pod) for pod in self._topology.machine(node).pods]
        Runtime(self._place, self._topology).attach_all(pods, lambda _: None)
        Agents(self._place, self._saved.running).settle(lambda _: None)

    def leave(self, node: str) -> None:
        """Pods stop, the agent ends, the node is deleted from the store, the machine goes.

        Whatever of it is there: who added it may have been killed in the middle."""
        machine = self._topology.machine(node)
        if (NAMESPACES / node).exists():
            runtime = Runtime(self._place, self._topology)
            with contextlib.suppress(Unavailable, OSError):
                for pod in machine.pods:
                    runtime.call("DEL", node, pod)
            with contextlib.suppress(Unavailable):
                kill(lambda: processes((node,)), signal.SIGTERM, GOODBYE)
        command = [
            *self._place.by_the_store(),
            *PODWAY,
            "delete",
            "node",
            node,
            "--force",
            "--store",
            self._place.store,
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        self.crash(node)
        shutil.rmtree(self._place.node(node), ignore_errors=True)
        if done.returncode != 0 and "no Node" not in done.stderr:
            raise Unavailable(done.stderr.strip(), f"podway delete node {node}")


def processes(namespaces: Iterable[str]) -> Iterator[int]:
    """All processes in network namespaces of the lab; a namespace that is gone has none."""
    inodes = set()
    for name in namespaces:
        with contextlib.suppress(FileNotFoundError):
            inodes.add((NAMESPACES / name).stat().st_ino)
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (path / "ns/net").stat().st_ino in inodes:
                yield int(path.name)


def kill(find: Callable[[], Iterable[int]], number: int, patience: float) -> None:
    """Signal whatever ``find`` finds, until it finds nothing. Raises Unavailable."""
    deadline = time.monotonic() + patience
    told: set[int] = set()
    while found := set(find()):
        for pid in found - told:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        told |= found
        if time.monotonic() > deadline:
            raise Unavailable(f"processes {sorted(found)} do not end", signal.Signals(number).name)
        time.sleep(PAUSE)


def main() -> None:
    """See the module."""
    name, directory, action, node = sys.argv[1:]
    change = Change(Place(name, Path(directory)))
    actions = {
        "faults": change.faults,
        "crash": change.crash,
        "boot": change.boot,
        "join": change.join,
        "leave": change.leave,
    }
    complaint = Complaint()
    try:
        actions[action](node)
    except PodwayError as error:
        complaint = Complaint(what=error.what, where=error.where, fix=error.fix)
    sys.stdout.buffer.write(msgspec.json.encode(complaint))


if __name__ == "__main__":
    main()

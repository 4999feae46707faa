"""Where labs are: their directories, whether one is alive, and its end. Works without entering one.

DIRECTORY/init       "PID STARTTIME" of the lab's init, as seen from where it was started
DIRECTORY/lab.json   topology and phase, written by the builder
DIRECTORY/store.db   the store of all nodes; or DIRECTORY/etcd, etcd.log
DIRECTORY/NODE/      state directory, sockets, log and CNI configuration of a node
DIRECTORY/lock       held by who changes a lab that is up

A lab of another directory (``--dir``) is a symbolic link in BASE, so that every lab is found there.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import select
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from podway.lab import etcd
from podway.lab.faults import Fault
from podway.lab.topology import Topology
from podway.model.documents import NAME
from podway.model.errors import Conflict, InvalidInput, Unavailable

BASE = Path("/run/podway/lab")
MEMORY = BASE.parent / "lab-neighbours.json"  # of podway.lab.neighbours, for all labs together
LONGEST_NAME = 31
SUN_PATH = 107  # bytes of a Unix socket's path, unix(7)
DEATH = 30.0  # seconds until a killed init must be gone
ATTEMPTS = 5
NAMESPACES = Path("/run/netns")  # inside the lab's mount namespace
BOOT_ID = "boot_id"  # of a node that was rebooted
#: $0 is the file, the rest the command
REBOOTED = 'mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"'


class Saved(msgspec.Struct, frozen=True, kw_only=True):
    """lab.json. ``seconds``: phase → how long it took, of a lab that is up.

    ``faults`` are in force; ``crashed`` nodes are off."""

    version: int = 1
    name: str
    topology: Topology
    up: bool = False
    seconds: dict[str, float] = {}
    faults: tuple[Fault, ...] = ()
    crashed: tuple[str, ...] = ()

    @property
    def running(self) -> Topology:
        """The topology less the nodes that are off."""
        machines = tuple(one for one in self.topology.machines if one.name not in self.crashed)
        return msgspec.structs.replace(self.topology, machines=machines)


class Place:
    """One lab's directory."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.directory = directory
        self.lock = -1

    @functools.cached_property
    def store(self) -> str:
        """URL of the store that all nodes share."""
        topology = self.saved().topology
        return etcd.url(topology) if topology.etcd else f"sqlite:{self.directory}/store.db"

    def by_the_store(self) -> list[str]:
        """The beginning of a command line that reaches the store, inside the lab."""
        host = self.saved().topology.etcd
        return ["nsenter", f"--net={NAMESPACES / host}", "--"] if host else []

    def node(self, name: str) -> Path:
        """A node's own directory."""
        return self.directory / name

    def socket(self, node: str) -> Path:
        """The CNI socket of a node's agent."""
        return self.node(node) / "cni.sock"

    @property
    def plugins(self) -> Path:
        """Where the CNI executable is installed."""
        return self.directory / "cni"

    def environment(self, node: str) -> dict[str, str]:
        """What makes every ``podway`` command speak of this node."""
        return {
            "PODWAY_NODE": node,
            "PODWAY_STORE": self.store,
            "PODWAY_STATE_DIR": str(self.node(node) / "state"),
            "PODWAY_SOCKET": str(self.socket(node)),
        }

    def enter(self, node: str) -> list[str]:
        """The beginning of a command line that runs in a node's network namespace, inside the lab."""
        return ["nsenter", f"--net={NAMESPACES / node}", "--", *self.boot(node)]

    def boot(self, node: str) -> list[str]:
        """The beginning of a command line for which the node has started when it did, not the machine.

        Empty until the node is rebooted: its first boot is the machine's own."""
        own = self.node(node) / BOOT_ID
        if not own.exists():
            return []
        # unchanged: namespaces that come and go in /run/netns are seen in here too
        return ["unshare", "--mount", "--propagation", "unchanged", "sh", "-c", REBOOTED, str(own)]

    @contextlib.contextmanager
    def changing(self) -> Iterator[Saved]:
        """lab.json for the body, which nobody else changes meanwhile. Raises Unavailable.

        A process that inherits ``lock`` keeps it, should this one be killed."""
        with open(self.directory / "lock", "ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.lock = lock.fileno()
            yield self.saved()

    # what is known of it -------------------------------------------------------------------------

    def save(self, saved: Saved) -> None:
        """Write lab.json, whole or not at all."""
        new = self.directory / ".lab.json.new"
        new.write_bytes(msgspec.json.format(msgspec.json.encode(saved), indent=2))
        new.rename(self.directory / "lab.json")

    def saved(self) -> Saved:
        """lab.json. Raises Unavailable when the lab never came so far."""
        try:
            return msgspec.json.decode((self.directory / "lab.json").read_bytes(), type=Saved)
        except (OSError, msgspec.MsgspecError) as error:
            what = f"the lab is not whole: {error}"
            raise Unavailable(what, str(self.directory), "podway lab down, and up again") from error

    def init(self) -> int | None:
        """The living init's process id; None when the lab is dead."""
        try:
            pid, started = (int(word) for word in (self.directory / "init").read_text().split())
        except (FileNotFoundError, ValueError):
            return None
        return pid if start_time(pid) == started else None

    def namespace(self, name: str) -> Path:
        """The network namespace of a machine or pod, as a path that works outside. Raises Unavailable."""
        init = self.init()
        if init is None:
            raise Unavailable("the lab has ended", str(self.directory), "podway lab down, and up again")
        return Path(f"/proc/{init}/root{NAMESPACES}/{name}")

    def destroy(self) -> bool:
        """End all processes of the lab and remove its directory; whether any were alive."""
        alive = kill(self.init())
        shutil.rmtree(self.directory, ignore_errors=True)
        link = BASE / self.name
        if link.is_symlink():
            link.unlink()
        tidy()
        return alive


def tidy() -> None:
    """Remove the directories of all labs, unless something is in them."""
    for parent in (BASE, BASE.parent):
        with contextlib.suppress(OSError):
            parent.rmdir()


def start_time(pid: int) -> int | None:
    """When a process started, in clock ticks since boot (proc(5), stat field 22): tells reused ids apart."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def kill(pid: int | None) -> bool:
    """SIGKILL an init and wait until its namespace is empty. Raises Unavailable when it doesn't end."""
    if pid is None:
        return False
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(fd, signal.SIGKILL)
        deadline = time.monotonic() + DEATH
        if not select.select([fd], [], [], deadline - time.monotonic())[0]:
            raise Unavailable(f"the lab's init, process {pid}, does not end", fix="look at dmesg")
    finally:
        os.close(fd)
    return True


def labs() -> dict[str, Place]:
    """Every lab of this machine, dead ones too, by name."""
    try:
        entries = sorted(BASE.iterdir())
    except OSError:
        return {}
    return {entry.name: Place(entry.name, entry.resolve()) for entry in entries}


def find(name: str | None) -> Place:
    """The lab of a name, or the only one. Raises InvalidInput."""
    known = labs()
    if name is not None:
        if name not in known:
            raise InvalidInput(f"there is no lab {name!r}", fix=_known(known))
        return known[name]
    if len(known) != 1:
        what = "there is no lab" if not known else "there are several labs"
        raise InvalidInput(what, fix=_known(known) if not known else f"--name, one of {', '.join(known)}")
    return next(iter(known.values()))


def _known(known: dict[str, Place]) -> str:
    return f"there are {', '.join(known)}" if known else "podway lab up"


def reserve(name: str, directory: Path | None, topology: Topology) -> Place:
    """Make a lab's directory, under its name at most once. Raises InvalidInput, Conflict."""
    if not NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        raise InvalidInput(f"{name!r} is no name of a lab", fix="lower case letters, digits, - (31 at most)")
    place = Place(name, directory.absolute() if directory else BASE / name)
    longest = max(len(os.fsencode(place.node(node.name) / "agent.sock")) for node in topology.of("node"))
    if longest > SUN_PATH:
        raise InvalidInput("a socket's path would be too long", str(place.directory), "a shorter --dir")
    if os.path.lexists(BASE / name):
        raise Conflict(
            f"there is a lab {name!r} already", fix=f"podway lab down --name {name}, or another --name"
        )
    _make(place)
    return place


def _make(place: Place) -> None:
    for _ in range(ATTEMPTS):
        BASE.mkdir(parents=True, exist_ok=True, mode=0o755)
        try:
            place.directory.mkdir(parents=True, mode=0o700)
            if place.directory.parent != BASE:
                (BASE / place.name).symlink_to(place.directory)
            return
        except FileExistsError as error:
            what = f"{error.filename2 or error.filename} is there already"
            raise Conflict(what, f"lab {place.name}", "another --name or --dir") from error
        except FileNotFoundError:
            continue  # the last other lab just went, and the empty base with it
    raise Unavailable("its directory can't be made", str(place.directory))

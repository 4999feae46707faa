"""A machine of the test's own: network, mount and PID namespaces under one init process.

Killing that init ends every process in it, and with the last process go its links and mounts. What
namespaces don't hold (control groups, the directory, a mount point) is removed by ``close``.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

UNSHARE = "unshare --net --mount --pid --fork --kill-child --mount-proc"
# Reaps what is left to it (shims, daemons) until its parent kills it.
INIT = """
set -e
mount -t tmpfs tmpfs /run && mkdir -p /run/netns /run/lock
mount -t tmpfs tmpfs /var/lib/cni
ip link set lo up
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
echo ready
exec "$0" -c 'import signal, os
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
while True:
    signal.sigwait({signal.SIGCHLD})
    try:
        while os.waitpid(-1, os.WNOHANG)[0]: pass
    except ChildProcessError: pass'
"""
# The host beyond has no route back to the pods: only what is masqueraded is answered.
UPLINK = """
ip netns add outside
ip link add up0 type veth peer name up0 netns outside
ip addr add 198.51.100.2/24 dev up0
ip addr add 2001:db8:51::2/64 dev up0 nodad
ip link set up0 up
ip -n outside addr add 198.51.100.1/24 dev up0
ip -n outside addr add 2001:db8:51::1/64 dev up0 nodad
ip -n outside link set lo up
ip -n outside link set up0 up
ip route add default via 198.51.100.1
ip route add default via 2001:db8:51::1
"""
CNI_CACHE = Path("/var/lib/cni")  # libcni's cache and host-local's data: no runtime lets it be moved
KINDS = ("net", "mnt", "pid")
CGROUPS = Path("/sys/fs/cgroup")


class Machine:
    """Namespaces, a directory, a name for control groups, and the processes started inside."""

    def __init__(self, python: str) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="pwrt-"))
        self.cgroup = self.directory.name
        self._spawned: list[subprocess.Popen[bytes]] = []
        self._made_cache = not CNI_CACHE.exists()
        CNI_CACHE.mkdir(parents=True, exist_ok=True)
        unshare = ["setpriv", "--pdeathsig", "KILL", *UNSHARE.split()]
        self._end = -1
        self._unshare = subprocess.Popen(
            [*unshare, "sh", "-c", INIT, python], stdout=subprocess.PIPE, text=True
        )
        assert self._unshare.stdout is not None
        if self._unshare.stdout.readline() != "ready\n":
            self.close()
            raise RuntimeError("could not make a network, mount and PID namespace: is this root?")
        children = Path(f"/proc/{self._unshare.pid}/task/{self._unshare.pid}/children")
        self.init = int(children.read_text().split()[0])
        self._end = os.pidfd_open(self.init)
        self.namespaces = frozenset(
            os.readlink(f"/proc/{self.init}/ns/{kind}") for kind in ("net", "mnt", "pid")
        )

    def command(self, arguments: Sequence[str]) -> list[str]:
        """``arguments`` as a command that runs them inside the machine."""
        return ["nsenter", "-t", str(self.init), "--net", "--mount", "--pid", "--", *arguments]

    def run(self, *arguments: str, check: bool = True, timeout: float = 60, stdin: str = "") -> str:
        """Standard output (both streams on failure) of a command inside. Raises AssertionError."""
        done = subprocess.run(
            self.command(arguments), capture_output=True, text=True, timeout=timeout, input=stdin
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def spawn(self, *arguments: str, log: str, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        """A long-running command inside; both of its streams are appended to DIRECTORY/LOG."""
        with open(self.directory / log, "ab") as out:
            process = subprocess.Popen(
                self.command(arguments), stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env
            )
        self._spawned.append(process)
        return process

    @staticmethod
    def signal(process: subprocess.Popen[bytes], number: int) -> None:
        """Send ``number`` to what ``spawn`` started: nsenter, its parent, hands no signal on."""
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        for child in children:
            os.kill(int(child), number)
        if number == signal.SIGCONT:
            process.send_signal(number)  # nsenter has stopped with its child

    def uplink(self) -> None:
        """Join the machine to a host "outside" (198.51.100.1, 2001:db8:51::1), its default gateway."""
        for line in UPLINK.strip().splitlines():
            self.run(*line.split())

    def cover(self, directory: Path, target: str) -> None:
        """Show ``directory`` at ``target``, a path that need not exist, to what runs inside.

        A file system of the machine's own is laid over the first of the target's parents."""
        top = f"/{target.split('/')[1]}"
        over = f"/run/over{top}"
        if not self.run("findmnt", "-n", "-t", "overlay", top, check=False):
            self.run("mkdir", "-p", f"{over}/up", f"{over}/work")
            layers = f"lowerdir={top},upperdir={over}/up,workdir={over}/work"
            self.run("mount", "-t", "overlay", "overlay", "-o", layers, top)
        self.run("mkdir", "-p", target)
        self.run("mount", "--bind", str(directory), target)

    @property
    def namespace(self) -> str:
        """Path of the machine's network namespace, as seen from outside."""
        return f"/proc/{self.init}/ns/net"

    def close(self) -> None:
        """End everything inside and remove what namespaces don't hold."""
        self._unshare.kill()  # --kill-child: its init, PID 1 of the namespace, goes too, and so does all
        self._unshare.wait()
        if self._end >= 0:
            select.select([self._end], [], [], 60)  # the init ends after all others in its namespace
            os.close(self._end)
        for process in self._spawned:
            process.wait()
        remove_cgroups(self.cgroup)
        shutil.rmtree(self.directory, ignore_errors=True)
        if self._made_cache:
            with contextlib.suppress(OSError):
                CNI_CACHE.rmdir()


def cgroups(name: str) -> list[Path]:
    """The control groups called ``name``: one with cgroup v2, one per hierarchy with v1."""
    found = [path for path in (CGROUPS / name, *CGROUPS.glob(f"*/{name}")) if path.is_dir()]
    return list({path.resolve(): path for path in found}.values())


def remove_cgroups(name: str) -> None:
    """Remove trees of control groups, leaves first; processes that are just dying are waited for."""
    for path in cgroups(name):
        for directory, _, _ in os.walk(path, topdown=False):
            _remove_when_empty(Path(directory))


def _remove_when_empty(path: Path) -> None:
    for _ in range(200):
        try:
            path.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.02)
    raise AssertionError(f"control group {path} still has members: {(path / 'cgroup.procs').read_text()}")


def left_behind(machine: Machine) -> list[str]:
    """What is still there of a closed machine: processes, mounts, namespaces, control groups, files."""
    left = [f"process {line}" for line in _processes_in(machine.namespaces)]
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    left += [f"mount {line}" for line in mounts if str(machine.directory) in line]
    left += [f"control group {path}" for path in cgroups(machine.cgroup)]
    left += [f"file {path}" for path in (machine.directory,) if path.exists()]
    return left


def _processes_in(namespaces: frozenset[str]) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if namespaces & {os.readlink(path / "ns" / kind) for kind in KINDS}:
                found.append(f"{path.name} {(path / 'cmdline').read_bytes().decode()}")
    return found


@contextlib.contextmanager
def machine(python: str = sys.executable) -> Iterator[Machine]:
    """A machine for the body. Raises AssertionError when anything of it outlives the body."""
    made = Machine(python)
    try:
        yield made
    finally:
        made.close()
    assert not (left := left_behind(made)), left

"""The init of a lab: first process of its PID, mount and network namespaces. Killing it ends the lab.

It reaps, and nothing else: a builder is started once and does the work. Whatever makes the builder
fail ends the lab; a builder whose starter is gone fails (see ``builder``).

Run as ``python -m podway.lab.init NAME DIRECTORY``; light on imports, as it stays for the lab's life.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWNET = 0x20000, 0x20000000, 0x40000000  # linux/sched.h


def main() -> None:
    """Leave an init in new namespaces and return; its process id is in DIRECTORY/init."""
    name, directory = sys.argv[1:]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWPID) != 0:
        sys.exit(f"no new namespaces: {os.strerror(ctypes.get_errno())}")
    ready, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(told)
        try:
            recorded = os.read(ready, 1)
            os.close(ready)
            code = _init(name, directory) if recorded else 1
        except BaseException as error:
            print(f"init: {error}", file=sys.stderr, flush=True)
            code = 1
        os._exit(code)
    os.close(ready)
    _record(pid, directory)
    os.write(told, b"1")


def _record(pid: int, directory: str) -> None:
    with open(f"/proc/{pid}/stat") as file:
        started = file.read().rpartition(")")[2].split()[19]
    with open(f"{directory}/.init.new", "w") as file:
        file.write(f"{pid} {started}\n")
    os.rename(f"{directory}/.init.new", f"{directory}/init")


def _init(name: str, directory: str) -> int:
    os.setsid()  # no terminal's Ctrl-C: whoever started the lab ends it
    os.chdir("/")
    _mounts(directory)
    builder = subprocess.Popen([sys.executable, "-P", "-m", "podway.lab.builder", name, directory])
    _let_go_of_starter()
    while True:
        try:
            pid, status = os.wait()
        except ChildProcessError:
            break  # every agent has ended and the builder too: nothing is left to be init of
        if pid == builder.pid and status != 0:
            return 1
    return _idle()


def _idle() -> int:
    """A lab without a process of its own keeps its namespaces until it is killed."""
    import signal

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps what is left to us
    while True:
        signal.pause()


def _mounts(directory: str) -> None:
    """Own /proc; an empty /run, so that ``ip netns`` names stay inside, with the lab's directory in it."""
    own = os.open(directory, os.O_PATH)
    commands = [
        ["mount", "--make-rprivate", "/"],
        ["mount", "-t", "proc", "proc", "/proc"],
        ["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"],
    ]
    for command in commands:
        subprocess.run(command, check=True)
    os.makedirs("/run/netns")
    if os.path.realpath(directory).startswith("/run/"):
        os.makedirs(directory)
        # -c: canonicalized, the descriptor would be the name of what tmpfs has just covered
        bind = ["mount", "-c", "--bind", f"/proc/self/fd/{own}", directory]
        subprocess.run(bind, check=True, pass_fds=(own,))
    os.close(own)


def _let_go_of_starter() -> None:
    """The starter sees the builder's end as the end of its pipes; so nobody else may hold them."""
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    os.close(null)


if __name__ == "__main__":
    main()

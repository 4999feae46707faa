"""``python -m bench``: network, mount and PID namespaces of the bench's own around ``inside``."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import machine

from bench import inside, reference
from bench.rows import AGAINST_PLUGINS

# Everything that the sides write outside of their directories lands in these.
SETUP = """
set -e
mount -t tmpfs tmpfs /run && mkdir -p /run/netns /run/lock
mount -t tmpfs tmpfs /var/lib/cni
ip link set lo up
exec "$@"
"""


#: neighbours of all namespaces together; two hundred nodes that know each other are 40 000
ROOM = 65536
LIMITS = [Path(f"/proc/sys/net/ipv4/neigh/default/gc_thresh{number}") for number in (1, 2, 3)]


@contextlib.contextmanager
def room() -> Iterator[None]:
    """Room in the machine's neighbour table for the body; what was lower is put back, if still as set."""
    before = {path: path.read_text() for path in LIMITS if path.exists() and int(path.read_text()) < ROOM}
    for path in before:
        path.write_text(str(ROOM))
    try:
        yield
    finally:
        for path, value in before.items():
            if int(path.read_text()) == ROOM:
                path.write_text(value)


def main() -> int:
    """Exit status of the measuring."""
    rows = inside.arguments().row
    if os.geteuid() != 0:
        print("bench: not root: the bench makes namespaces and links of its own", file=sys.stderr)
        return 1
    # Out here is the network that a build needs.
    if (not rows or set(rows) & AGAINST_PLUGINS) and (trouble := reference.prepare()):
        print(f"bench: {trouble}", file=sys.stderr)
    # An interrupt reaches the inner process too, which cleans up and ends; this one waits for it.
    signal.signal(signal.SIGINT, lambda number, frame: None)
    made = not machine.CNI_CACHE.exists()
    machine.CNI_CACHE.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="pwb-"))
    try:
        with room():
            return _inside(directory)
    finally:
        # What an inner process that was killed could not put away.
        for left in directory.glob("pwrt-*"):
            machine.remove_cgroups(left.name)
        shutil.rmtree(directory, ignore_errors=True)
        if made:
            with contextlib.suppress(OSError):
                machine.CNI_CACHE.rmdir()


def _inside(directory: Path) -> int:
    command = ["setpriv", "--pdeathsig", "KILL", *machine.UNSHARE.split(), "sh", "-c", SETUP, "sh"]
    command += [sys.executable, "-m", "bench.inside", *sys.argv[1:]]
    return subprocess.run(command, env={**os.environ, "TMPDIR": str(directory)}).returncode


if __name__ == "__main__":
    sys.exit(main())

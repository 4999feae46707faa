"""``python -m bench``: network, mount and PID namespaces of the bench's own around ``inside``."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

from bench import inside

# Everything that the sides write outside of their directories lands in these.
SETUP = """
set -e
mount -t tmpfs tmpfs /run && mkdir -p /run/netns /run/lock
mount -t tmpfs tmpfs /var/lib/cni
ip link set lo up
exec "$@"
"""
CNI_CACHE = Path("/var/lib/cni")


def main() -> int:
    """Exit status of the measuring."""
    inside.options().parse_args()
    if os.geteuid() != 0:
        print("bench: not root: the bench makes namespaces and links of its own", file=sys.stderr)
        return 1
    made = not CNI_CACHE.exists()
    CNI_CACHE.mkdir(parents=True, exist_ok=True)
    unshare = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    run = [sys.executable, "-m", "bench.inside", *sys.argv[1:]]
    try:
        return subprocess.run([*unshare, "sh", "-c", SETUP, "sh", *run]).returncode
    finally:
        if made:
            with contextlib.suppress(OSError):
                CNI_CACHE.rmdir()


if __name__ == "__main__":
    sys.exit(main())

"""Delay needs netem: tried in a guest with a distribution's kernel, where the tools for one are installed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

KERNELS = sorted(Path("/boot").glob("vmlinuz-*"))
GUEST = ("--user", "root", "--disable-kvm", "--rw", "--memory", "1G", "--cpus", "2")


@pytest.mark.soak
@pytest.mark.skipif(
    not (KERNELS and shutil.which("vng") and shutil.which("qemu-system-x86_64")),
    reason="needs virtme-ng, qemu-system-x86_64 and a kernel in /boot",
)
def test_links_are_slow_by_what_the_topology_says() -> None:
    """A segment's 100 ms once for each packet that passes it and a node's 50 ms each way: 300 ms there and
    back, and nothing on a link that has no delay."""
    script = Path(__file__).with_name("guest_delay.py")
    inside = f"modprobe -a sch_netem veth bridge; {sys.executable} -B {script}"
    command = ["vng", "--run", str(KERNELS[-1]), *GUEST, "--exec", inside]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    (line,) = [one for one in done.stdout.splitlines() if one.startswith("found ")]
    found = json.loads(line.removeprefix("found "))
    assert 300 <= found["far"] < 450 and found["near"] < 100, found

"""What ``make test`` runs under: a command that leaves something behind fails, whatever it says itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "leftovers"
pytestmark = pytest.mark.kernel


def _run(command: str) -> subprocess.CompletedProcess[str]:
    """In network, mount and process namespaces of the test's own, so that the leftovers go with it."""
    own = "mount -t sysfs sysfs /sys && mount -t tmpfs tmpfs /run && mkdir /run/netns && cd / && "
    script = f'{own} LEFTOVERS_PATIENCE=0.3 {sys.executable} {SCRIPT} sh -c "$1"'
    prefix = ["unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-c", script, "sh"]
    return subprocess.run([*prefix, command], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("command", "left"),
    [
        ("ip link add left0 type bridge", "link left0"),
        ("touch /run/netns/left", "network namespace left"),
        ("mkdir /run/left && mount -t tmpfs tmpfs /run/left", "mount /run/left"),
        ("sleep 30 & exit 0", "process "),
    ],
)
def test_what_is_left_is_named(command: str, left: str) -> None:
    """The command itself succeeded."""
    done = _run(command)
    assert done.returncode == 1 and f"left behind: {left}" in done.stderr, done


def test_what_goes_again_is_no_fault_and_the_exit_code_stays() -> None:
    """A link that was there for a moment; a command that failed by itself."""
    done = _run("ip link add left0 type bridge; ip link del left0; echo said; exit 3")
    assert (done.returncode, done.stdout, done.stderr) == (3, "said\n", "")
    assert _run("true").returncode == 0

"""Plugins whose work is in the pod alone: cut off anywhere, without a database, after the reference plugins.

Those whose links this kernel doesn't make are in the guest."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from dropin_lab import CniFailed
from inner_lives import (
    Lives,
    cut_off_and_recovered,
    cuts,
    every,
    foreign,
    lost_and_freed,
    state,
    taken_over,
    uninstalled,
)

pytestmark = pytest.mark.kernel

NAMES = ["macvlan", "host-device", "tap", "sbr"]


@pytest.mark.parametrize(("name", "point", "how"), cuts(NAMES))
def test_killed_anywhere(
    in_namespace: int, tmp_path: Path, pod: str, name: str, point: str, how: str
) -> None:
    """The next start, DEL or GC leaves the pod and the node as they were, and the next ADD works."""
    cut_off_and_recovered(Lives(tmp_path, name), pod, point, how)


def test_a_start_with_a_device_that_cannot_come_back(in_namespace: int, tmp_path: Path, pod: str) -> None:
    """A DEL was cut off, and the device's name is taken now: the node works, and the next DEL says it."""
    lives = Lives(tmp_path, "host-device")
    foreign(pod)
    lives.call("ADD", lives.conf, pod)
    lives.killed("delete.journalled", "DEL", pod)
    subprocess.run(["ip", "link", "add", "dev0", "type", "veth", "peer", "name", "dev9"], check=True)
    lives.start()
    with pytest.raises(CniFailed, match="the node has another dev0"):
        lives.call("DEL", lives.conf, pod)
    subprocess.run(["ip", "link", "del", "dev0"], check=True)
    lives.start()
    assert any("'dev0'" in one for one in state(pod)["node"])


@pytest.mark.soak
@pytest.mark.parametrize(("name", "point", "how"), every(NAMES))
def test_killed_anywhere_and_recovered_by_all(
    in_namespace: int, tmp_path: Path, pod: str, name: str, point: str, how: str
) -> None:
    """The same with each way of each."""
    cut_off_and_recovered(Lives(tmp_path, name), pod, point, how)


@pytest.mark.parametrize("name", NAMES)
def test_a_lost_database(in_namespace: int, tmp_path: Path, pod: str, other_pod: str, name: str) -> None:
    """Nothing is touched by a start; CHECK holds, and DEL frees the pod's and no other's."""
    lost_and_freed(Lives(tmp_path, name), pod, other_pod)


@pytest.mark.parametrize("name", NAMES)
def test_an_uninstall(in_namespace: int, tmp_path: Path, pod: str, name: str) -> None:
    """A living pod has nothing of Podway's any more."""
    uninstalled(Lives(tmp_path, name), pod)


@pytest.mark.parametrize("name", NAMES)
def test_theirs_is_taken_over(in_namespace: int, tmp_path: Path, pod: str, other_pod: str, name: str) -> None:
    """A living pod of the reference plugin's: CHECK, DEL and GC through ours."""
    taken_over(Lives(tmp_path, name), pod, other_pod)


@pytest.mark.parametrize("name", [one for one in NAMES if one != "tap"])
def test_debians_is_taken_over(
    in_namespace: int, tmp_path: Path, pod: str, other_pod: str, name: str
) -> None:
    """The same of those that Debian's package has."""
    taken_over(Lives(tmp_path, name, "1.0.0"), pod, other_pod)

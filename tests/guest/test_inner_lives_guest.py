"""As test_inner_lives, of the plugins whose links the guest's kernel makes."""

from __future__ import annotations

from pathlib import Path

import pytest
from inner_lives import Lives, cut_off_and_recovered, cuts, lost_and_freed, taken_over, uninstalled

pytestmark = [pytest.mark.guest, pytest.mark.soak]

NAMES = ["ipvlan", "vlan", "dummy", "vrf"]


@pytest.mark.parametrize(("name", "point", "how"), cuts(NAMES))
def test_killed_anywhere(
    in_namespace: int, tmp_path: Path, pod: str, name: str, point: str, how: str
) -> None:
    """The next start, DEL or GC leaves the pod and the node as they were, and the next ADD works."""
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

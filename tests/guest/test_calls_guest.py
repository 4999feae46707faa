"""As fuzz/test_calls, of the plugins whose links the guest's kernel makes: hundreds, since it is emulated."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from podway.kernel import namespaces
from podway.node.engine import NodeEngine

sys.path.append(str(Path(__file__).parents[1] / "fuzz"))
from running import Run, node

pytestmark = [pytest.mark.guest, pytest.mark.soak]

COUNT = 400


@pytest.fixture
def engine(in_namespace: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NodeEngine]:
    """A node of this test."""
    with node(tmp_path, monkeypatch) as opened:
        yield opened


def _with_rules_of_vrfs(pod: int) -> None:
    """With a namespace's first VRF the kernel makes its l3mdev rules, once and for ever."""
    with namespaces.entered(pod):
        for line in ("link add vrf9 type vrf table 9", "link del vrf9"):
            subprocess.run(["ip", *line.split()], check=True)


@pytest.mark.parametrize("name", ["dummy", "ipvlan", "vlan", "vrf"])
def test_calls(name: str, engine: NodeEngine, pod_namespace: int, tmp_path: Path) -> None:
    """One document each, in time; each name makes something; pod and node are as before."""
    if name == "vrf":
        _with_rules_of_vrfs(pod_namespace)
    with closing(Run(name, 0, engine, pod_namespace, tmp_path)) as run:
        run.calls(COUNT)
        assert run.made > COUNT // 100

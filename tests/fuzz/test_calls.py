"""Proves that whatever stdin and environment hold, the answer is one document, in time, and nothing leaks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from calls import PLUGINS
from running import Run, answer, node

from podway.cni.install import EXECUTABLE
from podway.cni.protocol import Call
from podway.node.engine import NodeEngine

pytestmark = pytest.mark.kernel

FEW, MANY = 500, 20_000
#: whose links this kernel need not have (guest/test_calls_guest.py is for them), or which asks a server
UNSURE = ("dhcp", "dummy", "ipvlan", "vlan", "vrf")


@pytest.fixture
def engine(in_namespace: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NodeEngine]:
    """A node of this test."""
    with node(tmp_path, monkeypatch) as opened:
        yield opened


@pytest.mark.parametrize("name", PLUGINS)
def test_a_few_calls(name: str, engine: NodeEngine, pod_namespace: int, tmp_path: Path) -> None:
    with closing(Run(name, 0, engine, pod_namespace, tmp_path)) as run:
        run.calls(FEW)
        assert run.made > FEW // 100 or name in UNSURE


@pytest.mark.parametrize("path", ["", "/gone"], ids=["path", "descriptor"])
def test_a_second_interface_takes_its_rules_along(
    path: str, engine: NodeEngine, pod_namespace: int, tmp_path: Path
) -> None:
    """A pod that lives on after a DEL has no rule about an address that may be another's by then."""
    stdin = json.dumps({"cniVersion": "1.0.0", "name": "pods", "type": EXECUTABLE}).encode()
    with closing(Run(EXECUTABLE, 0, engine, pod_namespace, tmp_path)) as run:

        def call(command: str, ifname: str) -> list[str]:
            env = {"CNI_COMMAND": command, "CNI_CONTAINERID": "c1", "CNI_IFNAME": ifname}
            env["CNI_NETNS"] = path or run.source.path
            asked = Call(argv0=EXECUTABLE, env=env, stdin=stdin, caller_fd=run.caller, pod_fd=pod_namespace)
            assert answer(asked, engine).exit_code == 0
            return run.look()["rule"]

        rules = call("ADD", "eth0")
        assert call("ADD", "eth1") != rules
        assert call("DEL", "eth1") == rules
        call("DEL", "eth0")


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", PLUGINS)
def test_many_calls(name: str, engine: NodeEngine, pod_namespace: int, tmp_path: Path) -> None:
    with closing(Run(name, 1, engine, pod_namespace, tmp_path)) as run:
        run.calls(MANY)
        assert run.made > MANY // 100 or name in UNSURE

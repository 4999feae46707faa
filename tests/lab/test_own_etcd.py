"""A lab whose nodes share no file: the store is an etcd on one of its hosts, which can be cut off."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest
from lab_tools import podway, running

NAME = f"o{os.getpid()}"
EXAMPLE = Path(__file__).parents[2] / "examples" / "own-etcd.yaml"
PATIENCE = 90.0


@pytest.mark.kernel
@pytest.mark.skipif(shutil.which("etcd") is None, reason="needs the etcd command")
def test_nodes_whose_store_is_away_go_on_and_come_back() -> None:
    """All pairs are reached with and without the store; after the outage a node joins, and one leaves."""
    with running(NAME, "-f", str(EXAMPLE)):
        assert "36 of 36 pairs" in podway("test", "--name", NAME, "--between", "all").stdout
        assert "etcd:http://192.0.2.3:2379/lab" in inside("a1", "env")
        podway("partition", "--name", NAME, "keeper")
        try:
            assert "6 of 6 pairs" in podway("test", "--name", NAME, "--between", "pods").stdout
        finally:
            podway("heal", "--name", NAME)
        wait_alive("b1")
        podway("add-node", "--name", NAME, "b2", "--segment", "right", "--pods", "1")
        assert "12 of 12 pairs" in podway("test", "--name", NAME, "--between", "pods").stdout
        podway("remove-node", "--name", NAME, "a2")
        assert "6 of 6 pairs" in podway("test", "--name", NAME, "--between", "pods").stdout
        assert "a2" not in inside("a1", "podway", "get", "node,block")


def wait_alive(node: str) -> None:
    """Until a node's agent is back at the store."""
    deadline = time.monotonic() + PATIENCE
    while podway("exec", "--name", NAME, node, "--", "podway", "status", check=None).returncode != 0:
        assert time.monotonic() < deadline
        time.sleep(0.5)


def inside(target: str, *command: str) -> str:
    return podway("exec", "--name", NAME, target, "--", *command).stdout

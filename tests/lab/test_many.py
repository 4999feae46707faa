"""Labs of many nodes: up, every pair reached, and the machine's neighbour tables as they were."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from lab_tools import podway, running

from podway.lab import neighbours, topology
from podway.lab.place import MEMORY, labs

pytestmark = pytest.mark.kernel
NAME = f"m{os.getpid()}"
LIMIT = Path("/proc/sys/net/ipv4/neigh/default/gc_thresh3")


@pytest.mark.parametrize("preset", ["flannel-vxlan", "calico-bgp"])
def test_a_dozen_nodes_reach_each_other(preset: str) -> None:
    """Small enough for every day, and large enough that the neighbour tables have to grow."""
    with running(NAME, "--nodes", "12", "--pods", "1", "--preset", preset):
        if LIMIT.exists():
            assert int(LIMIT.read_text()) > neighbours.need(topology.default(nodes=12, pods=1))
        done = podway("test", "--name", NAME, "--between", "pods")
        assert done.stdout.splitlines()[-1] == "132 of 132 pairs reached, no NAT inside"
        done = podway("test", "--name", NAME, "--between", "nodes")
        assert done.stdout.splitlines()[-1] == "132 of 132 pairs reached, no NAT inside"
    if not labs():  # others' labs may need room still
        assert not MEMORY.exists()


@pytest.mark.soak
def test_a_hundred_nodes_with_reflectors_chosen_from_them(tmp_path: Path) -> None:
    """Above ``meshLimit`` from the first: two are chosen while all start, and every node has a way to all."""
    documents = [
        {"apiVersion": "podway.dev/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}
        for kind, name, spec in (
            ("Network", "pods", topology.network_document("calico-bgp")["spec"]),
            ("BGPConfiguration", "default", {"meshLimit": 50, "hold": 90, "keepalive": 30}),
        )
    ]
    nodes = {f"node{number}": {"segment": "lan", "pods": 1} for number in range(1, 101)}
    file = tmp_path / "lab.json"
    file.write_text(
        json.dumps({"segments": {"lan": {"cidrs": topology.LAN}}, "nodes": nodes, "documents": documents})
    )
    with running(NAME, "-f", str(file)):
        spec: dict[str, Any] = {}
        deadline = time.monotonic() + 120
        while not spec or spec["old"] != spec["new"]:
            assert time.monotonic() < deadline, spec
            time.sleep(1)
            get = ("podway", "get", "bgptopology", "default", "-o", "json")
            spec = json.loads(podway("exec", "--name", NAME, "node50", "--", *get).stdout)["spec"]
        assert len(spec["new"]["reflectors"]) == 2
        found = json.loads(podway("test", "--name", NAME, "--between", "pods", "-o", "json").stdout)
        assert found["pairs"] == found["reached"] == 9900 and found["ok"]


@pytest.mark.soak
@pytest.mark.parametrize("preset", ["flannel-vxlan", "flannel-host-gw", "calico-bgp"])
def test_a_hundred_nodes_and_all_9900_pairs(preset: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Up within the minute on a quiet machine of two cores (600 s where it is not quiet); all pairs."""
    started = time.monotonic()
    with running(NAME, "--nodes", "100", "--pods", "1", "--preset", preset):
        up = time.monotonic() - started
        found = json.loads(podway("test", "--name", NAME, "--between", "pods", "-o", "json").stdout)
        tested = time.monotonic() - started - up
        assert found["pairs"] == found["reached"] == 9900 and found["ok"]
    with capsys.disabled():
        print(f"\n{preset}: 100 nodes up in {up:.1f} s, 9900 pairs tried in {tested:.1f} s")
    assert up < 600

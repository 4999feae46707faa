"""Both ways to attach a pod over every transport that this kernel has, side by side in one lab: each is a
network with pools of its own (ipip and wireguard: tests/guest)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from lab_tools import podway, running

pytestmark = pytest.mark.kernel
NAME = f"c{os.getpid()}"
NETWORKS = [(attach, way) for attach in ("bridge", "routed") for way in ("none", "host-gw", "vxlan", "bgp")]
NODES = ("node1", "node2")


def name(attach: str, way: str) -> str:
    return f"{attach}-{way}"


def chosen(attach: str, way: str) -> dict[str, str]:
    """As a user may write it: one of the pairs by its preset."""
    if (attach, way) == ("routed", "vxlan"):
        return {"preset": "calico-vxlan"}
    return {"attach": attach, "transport": way}


def topology() -> dict[str, Any]:
    documents = [
        {
            "apiVersion": "podway.dev/v1",
            "kind": "Network",
            "metadata": {"name": name(attach, way)},
            "spec": {
                **chosen(attach, way),
                "pools": [{"cidr": f"10.{100 + number}.0.0/16"}, {"cidr": f"fd00:{100 + number}::/48"}],
                **({"vxlan": {"vni": 10 + number}} if way == "vxlan" else {}),
            },
        }
        for number, (attach, way) in enumerate(NETWORKS)
    ]
    pods = {
        node: [
            {"name": f"{name(*one)}-{number}{place}", "network": name(*one)}
            for one in NETWORKS
            for place in "ab"
        ]
        for number, node in enumerate(NODES, 1)
    }
    return {
        "segments": {"lan": {"cidrs": ["192.0.2.0/24", "fd00:192:0:2::/64"]}},
        "nodes": {node: {"segment": "lan", "pods": pods[node]} for node in NODES},
        "documents": documents,
    }


def test_every_attachment_over_every_transport(tmp_path: Path) -> None:
    """Pods of one network reach each other by ICMP, TCP, UDP and full MTU over both families, on a node and,
    but for ``none``, between nodes; and routed ones without a bridge."""
    file = tmp_path / "lab.json"
    file.write_text(json.dumps(topology()))
    with running(NAME, "-f", str(file)):
        done = podway("test", "--name", NAME, "--between", "pods", "-o", "json", check=None)
        probes = json.loads(done.stdout)["probes"]
        for attach, way in NETWORKS:
            mine = [p for p in probes if network(p["from"]) == network(p["to"]) == name(attach, way)]
            near = [p for p in mine if p["from"][-2] == p["to"][-2]]
            far = [p for p in mine if p["from"][-2] != p["to"][-2]]
            assert {p["family"] for p in near} == {"IPv4", "IPv6"} and len(far) == 2 * len(near)
            failed = [p for p in near + (far if way != "none" else []) if not p["reached"] or p["nat"]]
            assert not failed, (attach, way, failed[0])
        links = podway("exec", "--name", NAME, "node1", "--", "ip", "-d", "link").stdout
        bridges = [line for line in links.splitlines() if line.strip().startswith("bridge ")]
        assert len(bridges) == sum(attach == "bridge" for attach, _ in NETWORKS)


def network(pod: str) -> str:
    """A pod's network, by its name."""
    return pod.rpartition("-")[0]

"""A single-stack network of routed pods gets another VNI, a smaller MTU and a second family under traffic."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from changing import POOLS, Lab
from lab_tools import podway, running
from streams import running as traffic

pytestmark = pytest.mark.kernel
SPEC = {"attach": "routed", "transport": "vxlan", "pools": POOLS[:1]}
TOPOLOGY = {
    "segments": {"lan": {"cidrs": ["192.0.2.0/24", "fd00:192:0:2::/64"]}},
    "nodes": {f"node{number}": {"segment": "lan", "pods": 1} for number in (1, 2)},
    "documents": [
        {"apiVersion": "podway.dev/v1", "kind": "Network", "metadata": {"name": "pods"}, "spec": SPEC}
    ],
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Two nodes of one routed IPv4 pod each."""
    file: Path = tmp_path_factory.mktemp("lab") / "lab.json"
    file.write_text(json.dumps(TOPOLOGY))
    with running(f"r{os.getpid()}", "-f", str(file)) as name:
        yield Lab(name, 2)


def test_another_vni_and_a_smaller_mtu_at_once(lab: Lab) -> None:
    """Each by its own rules, in one edit."""
    with traffic(lab.pods()) as seen:
        lab.apply(SPEC | {"vxlan": {"vni": 5}, "mtu": 1400})
        lab.wait_settled()
    seen.verify()
    assert {pod: lab.sizes(pod) for pod in lab.pod_names} == {pod: {1400} for pod in lab.pod_names}


def test_a_second_family(lab: Lab) -> None:
    """Pods of today go on as they are; those of nodes that join have both families."""
    spec = SPEC | {"vxlan": {"vni": 5}, "mtu": 1400, "pools": POOLS}
    with traffic(lab.pods()) as seen:
        lab.apply(spec)
        lab.wait_settled()
        podway("add-node", "--name", lab.name, "node3", "--pods", "1")
        podway("add-node", "--name", lab.name, "node4", "--pods", "1")
    seen.verify()
    old = {len(pod.addresses) for pod in lab.pods()}
    lab.pod_names = ["node3-1", "node4-1"]
    assert (old, {len(pod.addresses) for pod in lab.pods()}) == ({1}, {2})
    with traffic(lab.pods()) as seen:
        lab.wait_settled()
    seen.verify(least=1)

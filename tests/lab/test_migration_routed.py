"""A single-stack network of routed pods gets another VNI, a smaller MTU and a second family under traffic; a
bridged one becomes routed."""

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


def test_bridged_and_routed_pods_of_one_network(tmp_path: Path) -> None:
    """Pods of today stay on their bridge while ``attach`` changes, nodes that join have routed ones, and all
    reach each other at 1000 packets a second."""
    bridged = {"transport": "vxlan", "pools": POOLS}
    # each kind has a size of its own, and a pool one for both
    sizes = [pool | {"blockSize": size} for pool, size in zip(POOLS, (24, 64), strict=True)]
    network = TOPOLOGY["documents"][0] | {"spec": bridged}
    file = tmp_path / "lab.json"
    file.write_text(json.dumps(TOPOLOGY | {"documents": [network]}))
    with running(f"q{os.getpid()}", "-f", str(file)) as name:
        lab = Lab(name, 2)
        with traffic(lab.pods(), rate=1000) as seen:
            lab.apply(bridged | {"attach": "routed", "pools": sizes})
            podway("add-node", "--name", name, "node3", "--pods", "1")
            lab.wait_settled()
        seen.verify()
        lab.nodes, lab.pod_names = (*lab.nodes, "node3"), [*lab.pod_names, "node3-1"]
        with traffic(lab.pods(), rate=1000) as seen:
            lab.wait_settled()
            podway("test", "--name", name, "--between", "pods")
        seen.verify()
        kinds = [lab.inside(node, "ip", "link", "show", "type", "bridge") for node in lab.nodes]
        assert [bool(kind) for kind in kinds] == [True, True, False]

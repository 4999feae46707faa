"""Borrowed addresses in a lab: no block is left for a node that comes late; BGP, VXLAN, host-gw in turn."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from changing import Lab
from lab_tools import PATIENCE, podway, running

pytestmark = pytest.mark.kernel
POOLS = [{"cidr": "10.244.0.0/29", "blockSize": 30}, {"cidr": "fd00:10:244::/125", "blockSize": 126}]


def spec(transport: str) -> dict[str, object]:
    return {"attach": "routed", "transport": transport, "pools": POOLS, "cooldown": 1}


def until(condition: Callable[[], object], told: Callable[[], object] = lambda: "") -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, (condition, told())
        time.sleep(0.2)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Two nodes of a block and a pod each; a third that comes when there is none left, with two pods."""
    document = {"apiVersion": "podway.dev/v1", "kind": "Network", "metadata": {"name": "pods"}}
    topology = {
        "segments": {"lan": {"cidrs": ["192.0.2.0/24", "fd00:192:0:2::/64"]}},
        "nodes": {f"node{number}": {"segment": "lan", "pods": 1} for number in (1, 2)},
        "documents": [document | {"spec": spec("bgp")}],
    }
    file: Path = tmp_path_factory.mktemp("lab") / "lab.json"
    file.write_text(json.dumps(topology))
    with running(f"b{os.getpid()}", "-f", str(file)) as name:
        made = Lab(name, 3)
        until(lambda: families(offered(made)) >= Counter({4: 2, 6: 2}))
        podway("add-node", "--name", name, "node3", "--pods", "2")
        yield made


def offered(lab: Lab) -> list[str]:
    blocks = json.loads(lab.inside("node1", "podway", "get", "blocks", "-o", "json"))
    return [address for block in blocks for address in block.get("status", {}).get("offers", ())]


def families(addresses: list[str]) -> Counter[int]:
    return Counter(6 if ":" in address else 4 for address in addresses)


def borrowed(lab: Lab) -> dict[str, str]:
    found = json.loads(lab.inside("node1", "podway", "get", "borrows", "-o", "json"))
    return {one["metadata"]["name"]: one["spec"]["node"] for one in found}


def reached(lab: Lab, pairs: int) -> None:
    done = podway("test", "--name", lab.name, check=None)
    assert done.stdout.splitlines()[-1] == f"{pairs} of {pairs} pairs reached, no NAT inside", done.stdout


def test_a_node_without_a_block_is_reached_by_what_it_has_borrowed(lab: Lab) -> None:
    found = borrowed(lab)
    assert sorted(found.values()) == ["node3"] * 4
    blocks = json.loads(lab.inside("node1", "podway", "get", "blocks", "-o", "json"))
    assert sorted({block["spec"]["node"] for block in blocks}) == ["node1", "node2"]
    for node in ("node1", "node2"):
        until(lambda node=node: routes(lab, node) >= set(found), lambda node=node: routes(lab, node))
    until(lambda: "\n  ready" in lab.inside("node3", "podway", "status", check=None))
    reached(lab, 42)


def routes(lab: Lab, node: str) -> set[str]:
    """What a node has a route of full length to on another node, of the pool."""
    lines = [lab.inside(node, "ip", f"-{family}", "-j", "route").strip() for family in (4, 6)]
    found = [one for line in lines for one in json.loads(line)]
    return {one["dst"].partition("/")[0] for one in found if one.get("type", "unicast") == "unicast"}


@pytest.mark.parametrize("transport", ["vxlan", "host-gw"])
def test_by_another_transport(lab: Lab, transport: str) -> None:
    """With host-gw the way to node3 is proved by an answer from behind it: it has no address but these."""
    lab.apply(spec(transport))
    lab.wait_settled()
    for node in ("node1", "node2"):
        until(lambda node=node: routes(lab, node) >= set(borrowed(lab)), lambda node=node: routes(lab, node))
    reached(lab, 42)


def test_what_it_had_borrowed_is_given_back_when_its_pods_are_gone(lab: Lab) -> None:
    """By their node: after its DELs, a second of cool-down, at its next look."""
    before = set(borrowed(lab))
    for address in (one for one in sorted(before) if ":" not in one):
        lab.inside("node3", "podway", "ipam", "release", address, "--force")
    until(lambda: not borrowed(lab), lambda: borrowed(lab))
    for node in lab.nodes:
        until(lambda node=node: not before & routes(lab, node), lambda node=node: routes(lab, node))

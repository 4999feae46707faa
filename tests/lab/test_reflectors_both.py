"""``failover: both`` with reflectors that Podway chose among the nodes, all of them BIRD: clients hear of
each other through them alone."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from changing import POOLS, Lab, document
from lab_tools import podway, running
from streams import running as traffic

pytestmark = pytest.mark.kernel
PATIENCE = 90.0
NODES = 5


TOPOLOGY = {
    "segments": {"lan": {"cidrs": ["192.0.2.0/24"]}},
    "nodes": {f"node{number}": {"segment": "lan", "pods": 1} for number in range(1, NODES + 1)},
    "documents": [
        document("Network", "pods", {"preset": "calico-bgp", "pools": POOLS[:1]}),
        # it isn't the hold timer that notices a death
        document(
            "BGPConfiguration",
            "default",
            {"failover": "both", "meshLimit": 3, "hold": 240, "keepalive": 80},
        ),
    ],
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    file: Path = tmp_path_factory.mktemp("lab") / "lab.json"
    file.write_text(json.dumps(TOPOLOGY))
    with running(f"w{os.getpid()}", "-f", str(file)) as name:
        found = Lab(name, NODES)
        until(lambda: len(reflectors(found)) == 2 and whole(found))
        yield found


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, condition
        time.sleep(0.1)


def reflectors(lab: Lab) -> list[str]:
    """Those chosen, once all is as chosen."""
    found = json.loads(lab.inside("node1", "podway", "get", "bgptopology", "-o", "json"))
    if not found or found[0]["spec"]["old"] != found[0]["spec"]["new"]:
        return []
    return sorted(found[0]["spec"]["new"].get("reflectors", ()))


def clients(lab: Lab) -> list[str]:
    return sorted(set(lab.nodes) - set(reflectors(lab)))


def bgp(lab: Lab, node: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(lab.inside(node, "podway", "bgp", "status", "-o", "json", check=None))
    return found


def whole(lab: Lab) -> bool:
    """Whether every session is up, BFD's too, clients have none with each other, and all routes are there."""
    for node in lab.nodes:
        peers = bgp(lab, node)["peers"]
        if len(peers) != (NODES - 1 if node in reflectors(lab) else 2):
            return False
        if any((peer["state"], peer["bfd"]) != ("Established", "Up") for peer in peers):
            return False
    return all(has_route(lab, node, other) for node in lab.nodes for other in lab.nodes if node != other)


def has_route(lab: Lab, node: str, other: str) -> bool:
    return bool(lab.inside(node, "ip", "route", "show", lab.block_of(other), "proto", "bird"))


@contextlib.contextmanager
def cut_off(lab: Lab, node: str) -> Iterator[None]:
    """As if it died, for the body; then all is well again."""
    podway("partition", "--name", lab.name, node)
    try:
        yield
    finally:
        podway("heal", "--name", lab.name)
    until(lambda: whole(lab))


def test_the_bird_of_a_client_is_killed(lab: Lab) -> None:
    node = clients(lab)[0]
    first = bgp(lab, node)["pid"]
    with traffic(lab.pods(), rate=200) as seen:
        lab.inside(node, "kill", "-9", str(first))
        until(lambda: bgp(lab, node)["pid"] not in (None, first) and whole(lab))
    seen.verify()


def test_clients_hear_from_reflectors_that_a_client_died(lab: Lab) -> None:
    dead, *others = clients(lab)
    with cut_off(lab, dead):
        until(lambda: not any(has_route(lab, node, dead) for node in others))
        for node in others:
            assert all(peer["state"] == "Established" for peer in bgp(lab, node)["peers"])  # who told it


def test_a_reflector_that_dies_takes_only_its_own_pods_along(lab: Lab) -> None:
    dead = reflectors(lab)[0]
    alive = [pod for pod in lab.pods() if pod.name != f"{dead}-1"]
    with traffic(alive, rate=200) as seen, cut_off(lab, dead):
        until(lambda: not any(has_route(lab, node, dead) for node in lab.nodes if node != dead))
    seen.verify()

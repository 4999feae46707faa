"""From a mesh to reflectors, to others and back, in a lab: no packet lost, no session begun anew in vain."""

from __future__ import annotations

import json
import os
import signal
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
NODES = 6


TOPOLOGY = {
    "segments": {"lan": {"cidrs": ["192.0.2.0/24"]}},
    "nodes": {f"node{number}": {"segment": "lan", "pods": 1} for number in range(1, NODES + 1)},
    "documents": [document("Network", "pods", {"preset": "calico-bgp", "pools": POOLS[:1]})],
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Six nodes of a routed pod each, in a mesh."""
    file: Path = tmp_path_factory.mktemp("lab") / "lab.json"
    file.write_text(json.dumps(TOPOLOGY))
    with running(f"e{os.getpid()}", "-f", str(file)) as name:
        yield Lab(name, NODES)


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, condition
        time.sleep(0.3)


def apply(lab: Lab, kind: str, name: str, spec: dict[str, Any]) -> None:
    text = json.dumps(document(kind, name, spec))
    lab.inside("node1", "sh", "-c", f"cat >/tmp/one.json <<'END'\n{text}\nEND\npodway apply -f /tmp/one.json")


def settled(lab: Lab) -> dict[str, Any] | None:
    """The shape of all sessions, once there is only one, and every node has no others."""
    done = podway("exec", "--name", lab.name, "node1", "--", "podway", "get", "bgptopology", "-o", "json")
    found = [one["spec"] for one in json.loads(done.stdout)]
    if not found or found[0]["old"] != found[0]["new"]:
        return None
    shape: dict[str, Any] = found[0]["new"]
    for node in lab.nodes:
        few = shape.get("reflectors") and node not in shape["reflectors"]
        peers = sessions(lab, node)
        if len(peers) != (len(shape["reflectors"]) if few else NODES - 1):
            return None
        if any(peer["state"] != "Established" for peer in peers):
            return None
    return shape


def sessions(lab: Lab, node: str) -> list[dict[str, Any]]:
    peers: list[dict[str, Any]] = json.loads(lab.inside(node, "podway", "bgp", "peers", "-o", "json"))
    return peers


def ids(lab: Lab) -> set[str]:
    """Of the sessions, with the time since when each is up."""
    return {f"{node} {p['name']} {p['since']}" for node in lab.nodes for p in sessions(lab, node)}


def chosen(lab: Lab) -> set[str]:
    """Two reflectors, once nothing else is left; none until then."""
    found = settled(lab) or {}
    return set(found.get("reflectors", ()))


def test_from_a_mesh_to_reflectors_to_others_and_back(lab: Lab) -> None:
    until(lambda: settled(lab) == {"mesh": True})
    before = ids(lab)
    with traffic(lab.pods(), rate=100) as seen:
        apply(lab, "BGPConfiguration", "default", {"meshLimit": 4})
        until(lambda: len(chosen(lab)) == 2)
        assert ids(lab) < before  # those that stay were not touched
        (drained, kept) = sorted(chosen(lab))
        apply(lab, "Node", drained, {"drain": True})
        until(lambda: len(chosen(lab)) == 2 and drained not in chosen(lab) and kept in chosen(lab))
        apply(lab, "BGPConfiguration", "default", {"mesh": "on"})
        until(lambda: settled(lab) == {"mesh": True})
    seen.verify()
    assert "for the cluster acts: node" in lab.inside("node4", "podway", "status", check=None)


@pytest.mark.soak
def test_a_reflector_that_dies_is_replaced(lab: Lab) -> None:
    """After half a minute by another, between the others no packet is lost, and nothing changes any more:
    not while it is away, and not when it is back, as a client."""
    apply(lab, "BGPConfiguration", "default", {"meshLimit": 4})
    until(lambda: len(chosen(lab)) == 2)
    dead, kept = sorted(chosen(lab))
    lab.pod_names.remove(f"{dead}-1")
    with traffic(lab.pods(), rate=100) as seen:
        podway("crash", "--name", lab.name, dead)
        lab.nodes = tuple(node for node in lab.nodes if node != dead)
        until(lambda: dead not in topology(lab)["new"]["reflectors"])
        until(lambda: topology(lab)["old"] == topology(lab)["new"])
        found = topology(lab)
        assert len(found["new"]["reflectors"]) == 2 and kept in found["new"]["reflectors"]
        podway("reboot", "--name", lab.name, dead)
        until(lambda: all(peer["state"] == "Established" for peer in sessions(lab, dead)))
        assert {peer["description"] for peer in sessions(lab, dead)} == {
            f"node {name}" for name in found["new"]["reflectors"]
        }
    seen.verify()
    assert topology(lab) == found


def topology(lab: Lab) -> dict[str, Any]:
    found = json.loads(lab.inside(lab.nodes[0], "podway", "get", "bgptopology", "default", "-o", "json"))
    spec: dict[str, Any] = found["spec"]
    return spec


def test_whoever_acts_for_the_cluster_is_followed_when_it_is_killed(lab: Lab) -> None:
    def holder(node: str) -> str:
        status = json.loads(lab.inside(node, "podway", "status", "-o", "json", check=None))
        return str(status["controller"]["holder"])

    until(lambda: holder(lab.nodes[0]))
    first = holder(lab.nodes[0])
    agent = lab.agent_of(first)
    os.kill(agent, signal.SIGKILL)
    other = next(node for node in lab.nodes if node != first)
    until(lambda: holder(other) not in ("", first))
    process = lab.start_agent(first)
    try:
        until(lambda: "for the cluster acts" in lab.inside(first, "podway", "status", check=None))
        assert holder(first) != first  # who comes back doesn't take it again
    finally:
        process.terminate()
        process.wait()

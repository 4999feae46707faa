"""``failover: both`` between nodes: a BIRD that is killed or hangs loses nothing, a dead node is noticed."""

from __future__ import annotations

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
NAME = f"b{os.getpid()}"
PATIENCE = 60.0
SPEC = {"failover": "both", "hold": 240, "keepalive": 80}
LAB = {
    "segments": {"lan": {"cidrs": ["192.0.2.0/24", "fd00:192:0:2::/64"]}},
    "nodes": {name: {"segment": "lan", "pods": 1} for name in ("node1", "node2")},
    "documents": [
        document("Network", "pods", {"preset": "calico-bgp", "pools": POOLS}),
        document("BGPConfiguration", "default", SPEC),
    ],
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    file: Path = tmp_path_factory.mktemp("lab") / "lab.yaml"
    file.write_text(json.dumps(LAB))
    with running(NAME, "-f", str(file)):
        found = Lab(NAME, 2)
        until(lambda: all(watched(found, node) for node in found.nodes))
        yield found


def bgp(lab: Lab, node: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(lab.inside(node, "podway", "bgp", "status", "-o", "json", check=None))
    return found


def apply(lab: Lab, one: dict[str, Any]) -> None:
    lab.inside("node1", "sh", "-c", f"echo '{json.dumps(one)}' >/tmp/one.json; podway apply -f /tmp/one.json")


def watched(lab: Lab, node: str) -> bool:
    peers = bgp(lab, node)["peers"]
    return len(peers) == 2 and all((p["state"], p["bfd"]) == ("Established", "Up") for p in peers)


def routes(lab: Lab, node: str) -> int:
    return sum(lab.inside(node, "ip", f, "route").count("proto bird") for f in ("-4", "-6"))


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, condition
        time.sleep(0.1)


def test_a_bird_that_is_killed_or_hangs_loses_nothing(lab: Lab) -> None:
    first = bgp(lab, "node2")["pid"]
    with traffic(lab.pods()) as seen:
        lab.inside("node2", "kill", "-9", str(first))
        until(lambda: bgp(lab, "node2")["pid"] not in (None, first) and watched(lab, "node1"))
        second, before = bgp(lab, "node2")["pid"], since(lab)
        lab.inside("node2", "kill", "-STOP", str(second))
        # its guard may have replaced it by now
        until(lambda: not watched(lab, "node1") or since(lab) != before)
        assert routes(lab, "node1") == 2
    seen.verify()
    # one that wakes by itself did not start anew: it may not claim that it kept its forwarding state, so that
    # its neighbours drop its routes, as RFC 4724 (4.2) asks, for the moment until it has told them again
    lab.inside("node2", "kill", "-CONT", str(second), check=None)  # a slow machine has replaced it by now
    until(lambda: watched(lab, "node1") and watched(lab, "node2") and routes(lab, "node1") == 2)


def test_a_node_that_died_is_noticed_long_before_hold_and_taken_in_again(lab: Lab) -> None:
    podway("partition", "--name", NAME, "node2")
    try:
        until(lambda: routes(lab, "node1") == 0)
        until(lambda: "taken for dead" in lab.inside("node1", "podway", "bgp", "peers"))
    finally:
        podway("heal", "--name", NAME)
    until(lambda: watched(lab, "node1") and watched(lab, "node2") and routes(lab, "node1") == 2)


def test_a_drained_node_loses_nothing_and_others_are_preferred(lab: Lab) -> None:
    """The graceful shutdown community (RFC 8326) reaches the peers, whose preference for it is 0 then."""
    with traffic(lab.pods()) as seen:
        for drain in (True, False):
            apply(lab, document("Node", "node2", {"drain": drain}))
            until(lambda drain=drain: all(preferences(lab)) != drain)  # type: ignore[misc]
    seen.verify()


def test_another_failover_loses_nothing(lab: Lab) -> None:
    """Without BFD for a while: the sessions stay."""
    before = since(lab)
    with traffic(lab.pods()) as seen:
        for failover in ("hitless", "both"):
            apply(lab, document("BGPConfiguration", "default", SPEC | {"failover": failover}))
            until(lambda failover=failover: watched(lab, "node1") == (failover == "both"))  # type: ignore[misc]
    seen.verify()
    assert since(lab) == before


def since(lab: Lab) -> dict[str, float]:
    """When node1's sessions began."""
    return {peer["name"]: peer["since"] for peer in bgp(lab, "node1")["peers"]}


def preferences(lab: Lab) -> list[int]:
    """Of the routes that node1 was told."""
    found = json.loads(lab.inside("node1", "podway", "bgp", "routes", "-o", "json"))
    return [int(one["local_pref"]) for one in found]

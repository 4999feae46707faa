"""Networks that BGP carries, in a lab: BIRD on every node, kept by the agents, seen by the command."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from lab_tools import podway, running

pytestmark = pytest.mark.kernel
NAME = f"g{os.getpid()}"
PATIENCE = 60.0


@pytest.fixture(scope="module")
def lab() -> Iterator[str]:
    """Three nodes of one pod each, routed, BGP in a full mesh."""
    with running(NAME, "--nodes", "3", "--pods", "1", "--preset", "calico-bgp") as name:
        yield name


def inside(target: str, *command: str, check: int | None = 0) -> str:
    return podway("exec", "--name", NAME, target, "--", *command, check=check).stdout


def bgp(node: str) -> dict[str, Any]:
    """``podway bgp status -o json`` of a node."""
    found: dict[str, Any] = json.loads(inside(node, "podway", "bgp", "status", "-o", "json", check=None))
    return found


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, condition
        time.sleep(0.2)


def established(node: str) -> bool:
    return all(peer["state"] == "Established" for peer in bgp(node)["peers"])


def all_reached(pairs: int) -> None:
    done = podway("test", "--name", NAME, check=None)
    assert done.stdout.splitlines()[-1] == f"{pairs} of {pairs} pairs reached, no NAT inside", done.stdout


def test_every_pair_by_routes_that_bird_brought(lab: str) -> None:
    all_reached(36)
    until(lambda: "peers: 2 ok" in inside("node1", "podway", "status", check=None))
    peers = inside("node1", "podway", "get", "peers", "-o", "wide")
    assert peers.count("1500") >= 4, peers  # full packets, into the peers' blocks, over both families
    routes = inside("node1", "ip", "route")
    assert routes.count("proto bird metric 2048") == 2 and "vxlan" not in inside("node1", "ip", "-d", "link")
    assert inside("node1", "ip", "-6", "route").count("proto bird metric 2048") == 2


def test_the_command_shows_sessions_and_routes(lab: str) -> None:
    until(lambda: established("node1"))
    found = bgp("node1")
    assert found["version"] and not found["problems"] and len(found["own"]) == 2
    table = inside("node1", "podway", "bgp", "peers", "-o", "wide")
    assert table.count("Established") == 4 and "node node2" in table
    assert inside("node1", "podway", "bgp", "routes").count("*") == 4
    status = inside("node1", "podway", "bgp", "status")
    assert "4 of 4 up" in status and "AS 64512" in status


def test_a_killed_bird_comes_back_and_its_routes_stay(lab: str) -> None:
    pid = bgp("node2")["pid"]
    inside("node2", "kill", "-9", str(pid))
    assert inside("node2", "ip", "route").count("proto bird") == 2
    until(lambda: bgp("node2")["pid"] not in (None, pid) and established("node2"))
    assert inside("node2", "ip", "route").count("proto bird") == 2
    all_reached(36)


KILL_AGENT = """for pid in $(pgrep -f '[a]gent --listen'); do
    tr '\\0' '\\n' </proc/$pid/environ | grep -qx PODWAY_NODE=node3 && kill -9 $pid
done
true"""


def test_an_agent_that_is_killed_leaves_its_bird_and_its_successor_adopts_it(lab: str) -> None:
    """And shows its sessions as up since they are, not since it was started itself."""
    until(lambda: established("node3"))
    before = bgp("node3")
    inside("node3", "sh", "-c", KILL_AGENT)
    assert "process" not in inside("node3", "podway", "bgp", "status", check=None)
    assert inside("node3", "ip", "route").count("proto bird") == 2
    inside("node3", "sh", "-c", "setsid podway agent --listen '' >/dev/null 2>&1 &")
    until(lambda: "process" in inside("node3", "podway", "bgp", "status", check=None))
    assert bgp("node3")["pid"] == before["pid"]
    until(lambda: established("node3"))
    since = [{peer["name"]: peer["since"] for peer in one["peers"]} for one in (before, bgp("node3"))]
    assert since[0] == since[1]
    assert inside("node3", "ip", "route").count("proto bird") == 2


PEER = """
apiVersion: podway.dev/v1
kind: BGPPeer
metadata: {name: tor}
spec: {asNumber: 65001, peerAddress: 192.0.2.99, password: secret}
"""


def test_a_peer_that_is_not_there_is_told_and_touches_no_other_session(lab: str) -> None:
    since = {peer["name"]: peer["since"] for peer in bgp("node1")["peers"]}
    apply(PEER)
    until(lambda: any(peer["description"] == "BGPPeer tor" for peer in bgp("node1")["peers"]))
    until(lambda: any("BGPPeer tor" in problem for problem in bgp("node1")["problems"]))
    found = {peer["name"]: peer["since"] for peer in bgp("node1")["peers"]}
    assert since.items() <= found.items()
    assert "secret" not in inside("node1", "podway", "get", "bgppeers")
    inside("node1", "podway", "delete", "bgppeer", "tor")
    until(lambda: not bgp("node1")["problems"])


NETWORK = """
apiVersion: podway.dev/v1
kind: Network
metadata: {{name: pods}}
spec:
  attach: routed
  transport: {transport}
  pools: [{{cidr: 10.244.0.0/16}}, {{cidr: "fd00:10:244::/48"}}]
"""


def apply(document: str) -> None:
    inside("node1", "sh", "-c", f"cat >/tmp/document.yaml <<'END'\n{document}\nEND")
    inside("node1", "podway", "apply", "-f", "/tmp/document.yaml")


def test_from_bgp_to_vxlan_and_back(lab: str) -> None:
    """Each way stands until the other does; BIRD goes when nothing is carried by it any more."""
    apply(NETWORK.format(transport="vxlan"))
    until(lambda: bgp("node1")["pid"] is None and "proto bird" not in inside("node1", "ip", "route"))
    all_reached(36)
    apply(NETWORK.format(transport="bgp"))
    until(lambda: "vxlan" not in inside("node1", "ip", "-d", "link") and bgp("node1")["pid"])
    assert inside("node1", "ip", "route").count("proto bird") == 2
    all_reached(36)

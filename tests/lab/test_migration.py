"""A running network is changed under traffic between all pairs: nothing is lost, nothing is reset."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lab_tools import PATIENCE, PODWAY, init_of, podway, processes_of, running
from streams import Pod
from streams import running as traffic

from podway.lab.lab import command, environment
from podway.lab.place import find
from podway.model import documents
from podway.model.resources import Paths
from podway.plan.transport.vxlan import device_name
from podway.plan.way import Way, wanted
from podway.store import open_store

pytestmark = pytest.mark.kernel
NAME = f"m{os.getpid()}"
NODES = ("node1", "node2", "node3")
PODS = [f"{node}-1" for node in NODES]
POOLS = [{"cidr": "10.244.0.0/16"}, {"cidr": "fd00:10:244::/48"}]


@pytest.fixture(scope="module")
def lab() -> Iterator[str]:
    """Three nodes of one pod each."""
    with running(NAME, "--nodes", "3", "--pods", "1") as name:
        yield name


def inside(target: str, *command: str, check: int | None = 0) -> str:
    return podway("exec", "--name", NAME, target, "--", *command, check=check).stdout


def pods() -> list[Pod]:
    """The lab's pods with their addresses."""
    place = find(NAME)
    found = []
    for name in PODS:
        lines = json.loads(inside(name, "ip", "-j", "address", "show", "dev", "eth0"))[0]["addr_info"]
        addresses = [one["local"] for one in lines if one["scope"] == "global"]
        found.append(Pod(name, str(place.namespace(name)), addresses))
    return found


def apply(spec: dict[str, Any], *arguments: str) -> None:
    """``podway apply`` of the lab's network with another spec."""
    document = {"apiVersion": "podway.dev/v1", "kind": "Network", "metadata": {"name": "pods"}}
    text = json.dumps(document | {"spec": {"pools": POOLS} | spec})
    command = [*PODWAY, "apply", "--store", find(NAME).store, "-f", "-", *arguments]
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def devices(node: str) -> list[str]:
    """The VXLAN devices of a node."""
    return [one["ifname"] for one in json.loads(inside(node, "ip", "-j", "link", "show", "type", "vxlan"))]


def sizes(pod: str) -> set[int]:
    """The MTUs that a pod's interface and its routes have."""
    links = json.loads(inside(pod, "ip", "-j", "link", "show", "dev", "eth0"))
    routes = [
        route
        for family in ("-4", "-6")
        for route in json.loads(inside(pod, "ip", family, "-j", "route", "show", "dev", "eth0"))
    ]
    return {links[0]["mtu"]} | {m["mtu"] for route in routes for m in route.get("metrics", ()) if "mtu" in m}


def agent_of(node: str) -> int:
    """The process id of a node's agent."""
    for pid, _ in processes_of(init_of(NAME)):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        wanted_here = f"PODWAY_NODE={node}\0".encode() in Path(f"/proc/{pid}/environ").read_bytes()
        if wanted_here and b"agent" in words and b"nsenter" not in words[0]:
            return pid
    raise AssertionError(f"{node} has no agent")


def start_agent(node: str) -> subprocess.Popen[bytes]:
    """A new agent of a node whose agent was killed."""
    place = find(NAME)
    words = command(place, node, [*PODWAY, "agent", "--listen", ""])
    with open(place.node(node) / "agent.log", "ab") as log:
        return subprocess.Popen(words, env=environment(place, node), stdout=log, stderr=log)


def wait_settled(nodes: tuple[str, ...] = NODES) -> None:
    """Until the nodes accept and send the wanted way only, and no other device is left."""
    deadline = time.monotonic() + PATIENCE
    store = open_store(find(NAME).store)
    try:
        while True:
            records = [record for kind in ("Network", "Node") for record in store.list(kind)[0]]
            found, _ = documents.snapshot(records)
            way = wanted(found.networks["pods"].spec)
            said = {name: node.paths.get("pods") for name, node in found.nodes.items() if name in nodes}
            done = all(
                one and (one.accepts, one.sends) == ((way.text,), (way.text,)) for one in said.values()
            )
            want = 1 if way.transport == "vxlan" else 0
            done = done and all(one and _has_target(one) for one in said.values())
            if done and all(len(devices(node)) == want and is_even(node) for node in nodes):
                return
            assert time.monotonic() < deadline, said
            time.sleep(0.05)
    finally:
        store.close()


def is_even(node: str) -> bool:
    """Whether a node's kernel is as planned."""
    return "nothing to change" in inside(node, "podway", "plan", check=None)


def _has_target(one: Paths) -> bool:
    return one.sizes is not None and one.sizes.sends == one.mtu == one.sizes.target


@pytest.mark.parametrize(
    ("spec", "mtu"),
    [
        ({"transport": "vxlan"}, 1450),
        ({"transport": "vxlan", "vxlan": {"vni": 7}}, 1450),
        ({"transport": "vxlan", "vxlan": {"vni": 7, "port": 4789}}, 1450),
        ({"transport": "vxlan", "vxlan": {"vni": 7, "port": 4789, "underlay": "ipv6"}}, 1430),
        ({"transport": "host-gw"}, 1500),
        ({"transport": "host-gw", "mtu": 1300}, 1300),
        ({"transport": "host-gw"}, 1500),
    ],
    ids=[
        "host-gw to vxlan",
        "another VNI",
        "another port",
        "IPv6 underlay",
        "vxlan to host-gw",
        "a smaller MTU",
        "a larger MTU",
    ],
)
def test_nothing_is_lost(lab: str, spec: dict[str, Any], mtu: int) -> None:
    """1000 datagrams a second and two TCP connections for every ordered pair of pods."""
    with traffic(pods()) as seen:
        time.sleep(0.3)
        apply(spec)
        wait_settled()
    seen.verify()
    assert {pod: sizes(pod) for pod in PODS} == {pod: {mtu} for pod in PODS}


def until(what: str, holds: Callable[[], bool]) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def test_a_node_that_is_down_catches_up(lab: str) -> None:
    """Killed before the change, its agent finds it done elsewhere; its pods were reached all the time, the
    old way by which it still receives and sends, and in the end nothing of that is left."""
    os.kill(agent_of("node3"), signal.SIGKILL)
    agent = None
    try:
        with traffic(pods()) as seen:
            apply({"transport": "vxlan", "vxlan": {"vni": 21}})
            new = device_name(Way("vxlan", 21, 8472, 4))
            until("node1 and node2 use the new way", lambda: new in inside("node1", "ip", "route"))
            time.sleep(1.5)  # longer than an unneeded way is kept
            routes = inside("node1", "ip", "route")
            assert " dev eth0" in next(line for line in routes.splitlines() if block_of("node3") in line)
            agent = start_agent("node3")
            wait_settled()
        seen.verify()
    finally:
        if agent is not None:
            agent.kill()
            agent.wait()


def block_of(node: str) -> str:
    """A node's IPv4 block."""
    store = open_store(find(NAME).store)
    try:
        found, _ = documents.snapshot(store.list("Block")[0])
    finally:
        store.close()
    return next(b.cidr for b in found.blocks.values() if b.spec.node == node and ":" not in b.cidr)


def test_pools_are_added_and_grow(lab: str) -> None:
    """A second pool, and the first one doubled, touch no pod; a pod's packets to the new addresses are
    not masqueraded from then on."""
    spec = {"transport": "vxlan", "vxlan": {"vni": 21}}
    grown = [{"cidr": "10.244.0.0/15"}, {"cidr": "fd00:10:244::/47"}, {"cidr": "10.77.0.0/16"}]
    with traffic(pods()) as seen:
        apply(spec | {"pools": [*POOLS, {"cidr": "10.77.0.0/16"}]})
        until("the pool is known", lambda: all("10.77.0.0/16" in cluster_of(node) for node in NODES))
        apply(spec | {"pools": grown})
        until("the pool has grown", lambda: all("10.244.0.0/15" in cluster_of(node) for node in NODES))
        time.sleep(0.3)
    seen.verify()
    assert all("nothing to change" in inside(node, "podway", "plan") for node in NODES)


def cluster_of(node: str) -> str:
    """What a node doesn't masquerade."""
    return inside(node, "nft", "list", "set", "inet", "podway", "cluster4")

"""A running network is changed under traffic between all pairs: nothing is lost, nothing is reset."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
from changing import POOLS, Lab, until
from lab_tools import running
from streams import running as traffic

from podway.plan.transport.vxlan import device_name
from podway.plan.way import Way

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Three nodes of one pod each."""
    with running(f"m{os.getpid()}", "--nodes", "3", "--pods", "1") as name:
        yield Lab(name, 3)


@pytest.mark.parametrize(
    ("spec", "mtu"),
    [
        ({"transport": "vxlan"}, 1450),
        ({"transport": "vxlan", "vxlan": {"directWithinSubnet": True}}, 1450),
        ({"transport": "vxlan", "vxlan": {"vni": 7}}, 1450),
        ({"transport": "vxlan", "vxlan": {"vni": 7, "port": 4789}}, 1450),
        ({"transport": "vxlan", "vxlan": {"vni": 7, "port": 4789, "underlay": "ipv6"}}, 1430),
        ({"transport": "host-gw"}, 1500),
        ({"transport": "host-gw", "mtu": 1300}, 1300),
        ({"transport": "host-gw"}, 1500),
        ({"transport": "bgp"}, 1500),
        ({"transport": "vxlan"}, 1450),
        ({"transport": "bgp"}, 1500),
        ({"transport": "host-gw"}, 1500),
    ],
    ids=[
        "host-gw to vxlan",
        "direct within the subnet",
        "another VNI, not direct",
        "another port",
        "IPv6 underlay",
        "vxlan to host-gw",
        "a smaller MTU",
        "a larger MTU",
        "host-gw to bgp",
        "bgp to vxlan",
        "vxlan to bgp",
        "bgp to host-gw",
    ],
)
def test_nothing_is_lost(lab: Lab, spec: dict[str, Any], mtu: int) -> None:
    """1000 datagrams a second and two TCP connections for every ordered pair of pods."""
    with traffic(lab.pods()) as seen:
        time.sleep(0.3)
        lab.apply(spec)
        lab.wait_settled()
    seen.verify()
    assert {pod: lab.sizes(pod) for pod in lab.pod_names} == {pod: {mtu} for pod in lab.pod_names}


def test_changes_that_overtake_each_other(lab: Lab) -> None:
    """There and back and elsewhere before the first change has gone through everywhere."""
    with traffic(lab.pods()) as seen:
        for spec in (
            {"transport": "vxlan", "vxlan": {"vni": 31}},
            {"transport": "host-gw", "mtu": 1400},
            {"transport": "vxlan", "vxlan": {"vni": 32}},
            {"transport": "host-gw"},
            {"transport": "vxlan", "vxlan": {"vni": 31}},
        ):
            lab.apply(spec)
        lab.wait_settled()
    seen.verify()
    assert {pod: lab.sizes(pod) for pod in lab.pod_names} == {pod: {1450} for pod in lab.pod_names}


def route(lab: Lab, node: str, block: str) -> str:
    """A node's route to a block."""
    return next(line for line in lab.inside(node, "ip", "route").splitlines() if line.startswith(block))


def test_a_node_that_is_down_catches_up(lab: Lab) -> None:
    """Killed before the change, its agent finds it done elsewhere; its pods were reached all the time, the
    old way by which it still receives and sends, and in the end nothing of that is left."""
    before = route(lab, "node1", lab.block_of("node3"))
    os.kill(lab.agent_of("node3"), signal.SIGKILL)
    agent = None
    try:
        with traffic(lab.pods()) as seen:
            lab.apply({"transport": "vxlan", "vxlan": {"vni": 21}})
            new = device_name(Way("vxlan", 21, 8472, 4))
            until("node1 and node2 use the new way", lambda: new in lab.inside("node1", "ip", "route"))
            time.sleep(1.5)  # longer than an unneeded way is kept
            assert route(lab, "node1", lab.block_of("node3")) == before
            agent = lab.start_agent("node3")
            lab.wait_settled()
        seen.verify()
    finally:
        if agent is not None:
            agent.kill()
            agent.wait()


def test_pools_are_added_and_grow(lab: Lab) -> None:
    """A second pool, and the first one doubled, touch no pod; a pod's packets to the new addresses are
    not masqueraded from then on."""
    spec = {"transport": "vxlan", "vxlan": {"vni": 21}}
    grown = [{"cidr": "10.244.0.0/15"}, {"cidr": "fd00:10:244::/47"}, {"cidr": "10.77.0.0/16"}]
    with traffic(lab.pods()) as seen:
        lab.apply(spec | {"pools": [*POOLS, {"cidr": "10.77.0.0/16"}]})
        until("the pool is known", lambda: all("10.77.0.0/16" in lab.cluster_of(node) for node in lab.nodes))
        lab.apply(spec | {"pools": grown})
        until(
            "the pool has grown", lambda: all("10.244.0.0/15" in lab.cluster_of(node) for node in lab.nodes)
        )
        time.sleep(0.3)
    seen.verify()
    assert all("nothing to change" in lab.inside(node, "podway", "plan") for node in lab.nodes)

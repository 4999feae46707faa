"""A pod's namespace vanishes under a running agent, and no DEL comes: nothing is tried in vain, the pod is
named, its neighbours go on."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet import Machine, address_of, fleet, until

from pings import Pings
from podway.kernel import namespaces

pytestmark = pytest.mark.kernel

NETWORKS = {
    "bridge": {"transport": "host-gw", "pools": [{"cidr": "10.244.0.0/16"}, {"cidr": "fd00:244::/48"}]},
    "routed": {
        "attach": "routed",
        "transport": "host-gw",
        "pools": [{"cidr": "10.98.0.0/16"}, {"cidr": "fd00:98::/48"}],
    },
}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Machine]:
    with fleet(tmp_path, "a", **NETWORKS) as made:
        yield made.machines["a"]


def test_a_vanished_pod_is_named_and_nothing_is_tried_in_vain(node: Machine) -> None:
    """Bridged and routed, over passes of every kind; an end by ``ipam check --fix`` leaves nothing."""
    for network in NETWORKS:
        node.attach(f"gone-{network}", network)
    stay = [node.attach(f"stays-{network}", network) for network in NETWORKS]
    until(node.settled)
    since = time.time()
    addresses = [address_of(answer, family) for answer in stay for family in (4, 6)]
    with namespaces.entered(node.place):
        flows = {address: Pings(address) for address in addresses}
    for network in NETWORKS:
        os.close(node.pods.pop(f"gone-{network}"))
    for network in NETWORKS:
        node.says(f"pod gone-{network}/eth0: its namespace and its link ")
    node.run("sysctl -qw net.ipv6.conf.all.forwarding=0")
    node.run(f"ip route del {address_of(stay[1])}")
    until(lambda: address_of(stay[1]) in node.run("ip route"))
    until(lambda: "= 1" in node.run("sysctl net.ipv6.conf.all.forwarding"))
    planned = node.podway("plan").stdout
    assert "gone-" not in planned and node.settled(), planned
    shown = node.status()
    assert shown.count("problem: ") == 2 and shown.count("`podway ipam check --fix` frees what it had") == 2
    told = [(entry.kind, entry.key) for entry in node.journal(since)]
    assert {kind for kind, _ in told} == {"repaired"} and len(told) == 2, told
    assert node.podway("ipam", "check", "--fix").stdout.count("released gone-") == 2
    until(lambda: "problem: " not in node.status() and node.settled())
    lost = {address: flow.lost() for address, flow in flows.items()}
    lost.pop(address_of(stay[1]))  # a route that was deleted by hand costs what was sent until it was back
    assert not any(lost.values()), lost

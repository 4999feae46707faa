"""Real flanneld 0.26.7 and Podway's agent on one segment, over a real etcd: each carries the other's pods."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from flannel_lab import FlannelLab

pytestmark = pytest.mark.kernel

DUAL = {"EnableIPv6": True, "IPv6Network": "fd00:10:244::/48"}
POOLS = [{"cidr": "10.244.0.0/16"}, {"cidr": "fd00:10:244::/48"}]


def _until_reached(pod, address: str, hint) -> None:  # type: ignore[no-untyped-def]
    from flannel_lab import until

    until(lambda: pod.reaches(address), f"{pod.name} does not reach {address}: {hint()}")


@pytest.mark.parametrize("transport", ["vxlan", "host-gw"])
def test_pods_of_flannel_and_podway_reach_each_other(flannel_lab: FlannelLab, transport: str) -> None:
    """Both directions and both families, and two of Podway's nodes among themselves; seen addresses are the
    pods' own. Each node has one lease."""
    from flannel_lab import until

    flannel_lab.configure(**DUAL, Backend={"Type": transport})
    flannel_lab.network(pools=POOLS, transport=transport)
    theirs = flannel_lab.flannel(1)
    theirs.start(dual=True)
    pod_f, addresses_f = theirs.pod("x")
    nodes = [flannel_lab.podway(number) for number in (2, 3)]
    pods = []
    for node in nodes:
        node.start()
        pods.append(node.pod("x"))
    for (pod, addresses), node in zip(pods, nodes, strict=True):
        for address in addresses_f:
            _until_reached(pod, address, lambda node=node: f"{node.status}\n{theirs.log}\n{node.log}")
        for address in addresses:
            _until_reached(pod_f, address, lambda node=node: f"{node.status}\n{theirs.log}")
        assert len(addresses) == 2
    for address in pods[1][1]:
        _until_reached(pods[0][0], address, lambda: str(nodes[0].status))
    with flannel_lab.leases() as store:
        assert len(store.list().leases) == 3
    # IPv6 pods travel over IPv6, which leaves 20 bytes less
    assert f"mtu {1430 if transport == 'vxlan' else 1500} " in pods[0][0].run("ip link show eth0")
    until(lambda: not nodes[0].status["problems"], f"problems: {nodes[0].status['problems']}")

"""What ``podway diff`` tells of a change of a network before it is made."""

from __future__ import annotations

from typing import Any

import pytest

from podway.model.resources import (
    Block,
    BlockSpec,
    BridgeSpec,
    Network,
    NetworkSpec,
    Node,
    NodeSpec,
    Paths,
    Pool,
    Sizes,
    Snapshot,
    VxlanSpec,
    WireguardSpec,
)
from podway.plan.change import Outlook, outlook

POOL = Pool(cidr="10.244.0.0/16")


def network(name: str = "pods", **spec: Any) -> Network:
    return Network(name=name, spec=NetworkSpec(**({"pools": (POOL,), "transport": "vxlan"} | spec)))


def cluster(old: Network, *more: Network, third: str = "192.0.2.3/24") -> Snapshot:
    """Three nodes with a block each."""
    sizes = Sizes(generation="auto vxlan:1:8472:4", target=1450, sends=1450)
    paths = {"pods": Paths(accepts=("vxlan:1:8472:4",), sends=("vxlan:1:8472:4",), mtu=1450, sizes=sizes)}
    where = {"a": "192.0.2.1/24", "b": "192.0.2.2/24", "c": third}
    return Snapshot(
        networks={one.name: one for one in (old, *more)},
        nodes={n: Node(name=n, spec=NodeSpec(addresses=(a,)), paths=paths) for n, a in where.items()},
        blocks={
            f"10.244.{number}.0/24": Block(
                cidr=f"10.244.{number}.0/24", spec=BlockSpec(network="pods", node=n, attach="bridge")
            )
            for number, n in enumerate(where)
        },
    )


def told(new: Network, old: Network | None = None, third: str = "192.0.2.3/24") -> Outlook:
    before = old or network()
    return outlook(before, new, cluster(before, third=third))


def test_nothing_changes_and_nothing_happens() -> None:
    assert told(network()) == Outlook()
    assert told(network(cooldown=5)) == Outlook()


def test_another_vni_is_told_step_by_step_and_loses_nothing() -> None:
    found = told(network(vxlan=VxlanSpec(vni=2)))
    assert "vxlan:2:8472:4 beside vxlan:1:8472:4" in found.steps[0]
    assert "all 3 registered nodes" in found.steps[2]
    assert (found.risks, found.losses, found.clashes) == ((), (), ())


def test_a_smaller_mtu_names_what_can_not_be_saved() -> None:
    found = told(network(mtu=1400))
    assert found.steps == (
        "MTU 1450 to 1400: first the routes in every pod on every node, then the paths, then pods' links",
    )
    assert "more than 1400 bytes" in found.risks[0] and "EMSGSIZE" in found.risks[0]
    assert found.losses == ()


def test_a_transport_brings_its_mtu() -> None:
    found = told(network(transport="host-gw"))
    assert any("MTU 1450 to 1500" in step and "first pods' links" in step for step in found.steps)
    assert found.risks == ()


def test_nodes_that_a_new_way_does_not_lead_to() -> None:
    found = told(network(transport="host-gw"), third="198.51.100.3/24")
    assert "share no segment" in found.risks[0] and ": c:" in found.risks[0]
    found = told(network(vxlan=VxlanSpec(underlay="ipv6")))
    assert "without an IPv6 address: a, b, c" in found.risks[0]
    assert found.losses == ()


def test_pools_are_added_and_grow() -> None:
    found = told(network(pools=(Pool(cidr="10.244.0.0/15"), Pool(cidr="fd00::/48"))))
    assert "10.244.0.0/16 becomes 10.244.0.0/15" in found.steps[0] and "fd00::/48 is added" in found.steps[1]
    assert "IPv6 address when they are attached" in found.risks[0]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"transport": "none"}, "no longer reach each other: a, b, c"),
        ({"bridge": BridgeSpec(name="cni0")}, "another bridge"),
        ({"bridge": BridgeSpec(isolated=True)}, "pods of one node no longer"),
    ],
)
def test_what_loses_packets_says_so(spec: dict[str, Any], words: str) -> None:
    (loss,) = told(network(**spec)).losses
    assert words in loss


def test_a_wireguard_port_that_the_other_family_still_has() -> None:
    """The kernel's device takes its port in both."""
    old = network(transport="wireguard")
    paths = {"pods": Paths(accepts=("wireguard:51820:4",), sends=("wireguard:51820:4",))}
    now = Snapshot(networks={"pods": old}, nodes={"a": Node(name="a", spec=NodeSpec(), paths=paths)})
    (clash,) = outlook(
        old, network(transport="wireguard", wireguard=WireguardSpec(underlay="ipv6")), now
    ).clashes
    assert clash == "UDP port 51820 still carries network pods on node a; take another"
    other = WireguardSpec(underlay="ipv6", port=51821)
    assert not outlook(old, network(transport="wireguard", wireguard=other), now).clashes
    assert not outlook(old, old, now).clashes


def test_networks_share_the_devices_of_ipip() -> None:
    paths = {"other": Paths(accepts=("ipip:4",), sends=("ipip:4",))}
    both = {name: network(name, transport="ipip") for name in ("pods", "other")}
    now = Snapshot(networks=both, nodes={"a": Node(name="a", spec=NodeSpec(), paths=paths)})
    assert not outlook(network(), both["pods"], now).clashes


def test_a_vni_that_another_network_still_leaves() -> None:
    new = network("other", vxlan=VxlanSpec(vni=1))
    old = network("other", vxlan=VxlanSpec(vni=9))
    (clash,) = outlook(old, new, cluster(network(vxlan=VxlanSpec(vni=5)), old)).clashes
    assert "still carries network pods on node a" in clash

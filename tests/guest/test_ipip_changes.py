"""IPIP among the transports: routed pods reach each other, and a change to it or from it loses nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from two_nodes import Cluster, cluster
from under_traffic import change

from podway.kernel.facade import Kernel
from podway.model.objects import Link

pytestmark = pytest.mark.guest


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("changes"), {"attach": "routed", "transport": "vxlan"}) as made:
        yield made


@pytest.mark.parametrize(
    ("transport", "kinds"),
    [
        ("ipip", {"ipip", "ip6tnl"}),
        ("wireguard", {"wireguard"}),
        ("host-gw", set()),
        ("wireguard", {"wireguard"}),
        ("ipip", {"ipip", "ip6tnl"}),
        ("host-gw", set()),
        ("ipip", {"ipip", "ip6tnl"}),
        ("vxlan", {"vxlan"}),
    ],
)
def test_a_change_of_transport_loses_nothing(pair: Cluster, transport: str, kinds: set[str]) -> None:
    """Each from the one before: vxlan, ipip, wireguard and host-gw into each other."""
    change(pair, {"attach": "routed", "transport": transport})
    for machine in pair.machines:
        tunnels = {one.kind for one in machine.within(links) if one.name.startswith("pw")}
        assert tunnels & {"ipip", "ip6tnl", "wireguard", "vxlan"} == kinds


def test_bridged_pods_too(tmp_path: Path) -> None:
    """Flannel's ipip: from VXLAN to it, and each node's bridge stays where it is."""
    with cluster(tmp_path, {"attach": "bridge", "transport": "vxlan"}) as pair:
        frames = change(pair, {"attach": "bridge", "transport": "ipip"})
        for machine in pair.machines:
            kinds = {one.kind for one in machine.within(links) if one.name.startswith("pw")}
            assert kinds >= {"bridge", "ipip", "ip6tnl"} and "vxlan" not in kinds
        assert frames


def links(kernel: Kernel) -> list[Link]:
    return [one for one in kernel.observe({"link"}).values() if isinstance(one, Link)]

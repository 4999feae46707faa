"""What pods' MTU follows from: the uplink that carries the way, and what the way puts around a packet."""

from __future__ import annotations

import pytest

from podway.model.resources import (
    Network,
    NetworkSpec,
    NodeFacts,
    Pool,
    Snapshot,
    Transport,
    Uplink,
    VxlanSpec,
)
from podway.plan import mtu
from podway.plan.planner import Planner

ETH = Uplink(name="eth0", mtu=1500, addresses=("192.0.2.1/24", "2001:db8::1/64"))
JUMBO = Uplink(name="eth1", mtu=9000, addresses=("198.51.100.1/24",))


def _network(transport: Transport, underlay: str = "ipv4", six: bool = False) -> Network:
    pools = (Pool(cidr="10.1.0.0/16"), *([Pool(cidr="fd00:1::/48")] if six else []))
    vxlan = VxlanSpec(underlay=underlay)  # type: ignore[arg-type]
    return Network(name="pods", spec=NetworkSpec(pools=pools, transport=transport, vxlan=vxlan))


def _facts(*uplinks: Uplink, own: tuple[str, ...] = ()) -> NodeFacts:
    return NodeFacts(name="a", uplinks=uplinks, addresses=own)


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (_network("none"), 1500),
        (_network("host-gw"), 1500),
        (_network("vxlan"), 1450),
        (_network("vxlan", "ipv6"), 1430),
    ],
)
def test_each_transport_takes_its_own(network: Network, expected: int) -> None:
    """50 bytes for VXLAN over IPv4, 70 over IPv6, nothing without a tunnel."""
    assert mtu.effective(network, _facts(ETH, own=ETH.addresses)) == expected


def test_a_tunnel_is_as_wide_as_the_uplink_that_it_begins_on() -> None:
    """Jumbo frames on one of two uplinks: the one with the tunnel's address decides."""
    assert mtu.effective(_network("vxlan"), _facts(JUMBO, ETH, own=JUMBO.addresses)) == 8950
    assert mtu.effective(_network("vxlan"), _facts(JUMBO, ETH, own=ETH.addresses)) == 1450
    assert mtu.effective(_network("vxlan", "ipv6"), _facts(JUMBO, ETH, own=ETH.addresses)) == 1430
    assert mtu.effective(_network("host-gw"), _facts(JUMBO, ETH, own=JUMBO.addresses)) == 1500
    assert mtu.effective(_network("vxlan"), _facts(JUMBO, ETH)) == 1450  # declared: on no uplink yet


def test_too_small_for_ipv6_is_said() -> None:
    """IPv6 vanishes silently below 1280; a network without an IPv6 pool doesn't mind."""
    narrow = _facts(Uplink(name="eth0", mtu=1300, addresses=("192.0.2.1/24",)), own=("192.0.2.1/24",))
    for six, said in ((True, 1), (False, 0)):
        planner = Planner(narrow)
        planner.update_snapshot(Snapshot(networks={"pods": _network("vxlan", six=six)}, synced=True))
        assert sum("IPv6 needs 1280" in note.reason for note in planner.notes) == said

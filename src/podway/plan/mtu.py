"""The MTU of a network's pods: a fold over the uplinks, less what the transport adds."""

from __future__ import annotations

from podway.model.resources import Network, NodeFacts
from podway.plan.way import Way, of_flannel, wanted

DEFAULT = 1500  # no uplink: Ethernet's

#: bytes that VXLAN puts around a packet (RFC 7348 section 5): outer IP, UDP, VXLAN, inner Ethernet
VXLAN_OVERHEAD = {4: 20 + 8 + 8 + 14, 6: 40 + 8 + 8 + 14}


def overhead(way: Way) -> int:
    """Bytes that a way puts around a packet."""
    return VXLAN_OVERHEAD[way.underlay] if way.transport == "vxlan" else 0


def of_way(network: Network, way: Way, facts: NodeFacts) -> int:
    """What ``mtu`` says, or the smallest uplink's MTU less the way's overhead."""
    if network.spec.mtu != "auto":
        return network.spec.mtu
    return min((uplink.mtu for uplink in facts.uplinks), default=DEFAULT) - overhead(way)


def effective(network: Network, facts: NodeFacts) -> int:
    """What pods of the network get: the least of the ways that they use at once."""
    ways = (wanted(network.spec), *of_flannel(network.spec))
    return min(of_way(network, way, facts) for way in ways)

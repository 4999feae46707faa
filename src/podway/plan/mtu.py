"""The MTU of a network's pods: a fold over the uplinks, less what the transport adds."""

from __future__ import annotations

from podway.model.resources import Network, NodeFacts

DEFAULT = 1500  # no uplink: Ethernet's

#: bytes that a transport puts around a packet
OVERHEAD = {"none": 0, "host-gw": 0}


def effective(network: Network, facts: NodeFacts) -> int:
    """What ``mtu`` says, or the smallest uplink MTU less the transport's overhead."""
    if network.spec.mtu != "auto":
        return network.spec.mtu
    smallest = min((uplink.mtu for uplink in facts.uplinks), default=DEFAULT)
    return smallest - OVERHEAD[network.spec.transport]

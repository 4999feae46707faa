"""How a pod is attached to its node: one file per kind, chosen here.

A pod keeps the kind that it was attached by, and a block the kind that it was claimed for: a network
whose ``attach`` is changed has both until the last pod of the old kind is gone.
"""

from __future__ import annotations

from podway.model import names
from podway.model.objects import AnyObject
from podway.model.resources import Block, Endpoint, Network, NodeFacts
from podway.plan.attach import bridge, routed


def network(network: Network, facts: NodeFacts, mtu: int) -> tuple[AnyObject, ...]:
    """What stands on the node for a network before its first pod. ``mtu``: of its pods' links."""
    return bridge.network(network, facts, mtu) if network.spec.attach == "bridge" else routed.network()


def own_block(block: Block, network: Network, facts: NodeFacts, mtu: int) -> tuple[AnyObject, ...]:
    """What one of this node's blocks needs, its kind of attachment included."""
    if block.spec.attach == "bridge":
        return (*bridge.network(network, facts, mtu), *bridge.own_block(block, network))
    return (*routed.network(), *routed.own_block(block))


def endpoint(endpoint: Endpoint, network: Network, facts: NodeFacts, mtu: int) -> tuple[AnyObject, ...]:
    """The host's side of one pod interface."""
    if not endpoint.bridge:
        return routed.endpoint(endpoint, network)
    left_over = bridge.network(network, facts, mtu) if network.spec.attach != "bridge" else ()
    return (*left_over, *bridge.endpoint(endpoint, network))


def bridge_of(network: Network) -> str:
    """The bridge that a new pod of the network gets into, "" for none."""
    return bridge.bridge_name(network) if network.spec.attach == "bridge" else ""


def host_mac(endpoint: Endpoint) -> str:
    """The MAC of the host side of a pod's veth."""
    if endpoint.bridge:
        return names.host_mac(endpoint.container, endpoint.ifname)
    return names.ROUTED_MAC

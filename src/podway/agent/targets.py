"""Where to probe a peer: its node address, and an address of its blocks by the route in force. Pure.

Per network and family one block stands for all: they share the tunnel, the next hop, the device. A tunnel is
asked by nodes that have an address in it, of a block of their own: from another one WireGuard takes nothing,
and what other tunnels take is answered beside them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from podway.model.objects import Link, Route, family_of
from podway.model.resources import Block, Network, Node, NodeFacts
from podway.plan import mtu, narrow, transport
from podway.plan.planner import Planner
from podway.plan.targets import inside
from podway.plan.transport import tunnel
from podway.probe.finding import SMALL, Path


def paths(node: Node, planner: Planner) -> tuple[Path, ...]:
    """The paths to one peer: to its blocks; to its node address alone when it has none."""
    overlay: dict[tuple[str, int], Path] = {}
    needed: dict[int, int] = {}  # family of the node addresses → what their path must carry
    own = _own(planner)
    for block in planner.blocks_of(node.name):
        if block.borrowed:
            continue  # a pod may answer there, or nobody
        network = planner.inputs.networks.get(block.spec.network)
        route = next((o for o in planner.fragment("block", block.cidr) if isinstance(o, Route)), None)
        if network is None or (route is None and block.cidr not in planner.inputs.learned):
            continue
        path = _overlay(network, block, node, route, planner)
        needed[path.underlay] = max(needed.get(path.underlay, SMALL), path.full + path.around)
        if not path.carrier or (network.name, family_of(block.cidr)) in own:
            overlay.setdefault((network.name, family_of(block.cidr)), path)
    if not needed:
        needed = {family: SMALL for family in (4, 6) if node.address(family)}
    return (*_underlay(node, needed, planner.inputs.facts), *overlay.values())


def _own(planner: Planner) -> set[tuple[str, int]]:
    """(network, family) in which this node has a block of its own, and so an address at its tunnel's end."""
    blocks = planner.blocks_of(planner.inputs.facts.name)
    return {(block.spec.network, family_of(block.cidr)) for block in blocks if not block.borrowed}


def _overlay(network: Network, block: Block, node: Node, route: Route | None, planner: Planner) -> Path:
    """The path to a block by the route in force; None: one that BGP has brought."""
    facts = planner.inputs.facts
    pods = mtu.effective(network, facts)
    dev = route.dev if route is not None else ""
    link = planner.desired.get(("link", dev))
    carriage = transport.carriage(link) if isinstance(link, Link) else None
    if isinstance(link, Link) and carriage is not None:
        full = narrow.path_mtu(min(pods, link.mtu or pods), network.name, node)
        return Path(
            layer="overlay",
            target=tunnel.inner(block.cidr),
            full=full,
            network=network.name,
            carrier=carriage.name,
            around=carriage.around,
            underlay=carriage.underlay,
        )
    family = family_of(block.cidr)
    widest = next((uplink.mtu for uplink in facts.uplinks if uplink.name == dev), pods)
    full = narrow.path_mtu(min(pods, widest), network.name, node)
    return Path(layer="overlay", target=inside(block), full=full, network=network.name, underlay=family)


def _underlay(node: Node, needed: Mapping[int, int], facts: NodeFacts) -> Iterable[Path]:
    widest = max((uplink.mtu for uplink in facts.uplinks), default=mtu.DEFAULT)
    for family, full in sorted(needed.items()):
        if target := node.address(family):
            yield Path(layer="underlay", target=target, full=min(full, widest))

"""What has to be proved before a peer's block is sent to without a tunnel, from what is declared."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from podway.model.objects import AnyObject, Route, family_of
from podway.model.resources import Block, Node, NodeFacts, Snapshot
from podway.plan import borrowed
from podway.plan.attach import bridge
from podway.plan.path import STOOD, Chosen, Fallback, PathKey, Target
from podway.plan.transport import hostgw
from podway.plan.way import DIRECT, Way

ALWAYS_TUNNEL = "the network's transport"


def key_of(block: Block) -> PathKey:
    """Which path a block's packets go."""
    return PathKey(block.spec.network, block.spec.node, family_of(block.cidr))


def inside(block: Block) -> str:
    """The address in a block where its node answers: the gateway on the bridge; without one the block's
    first, which is no address of the node's own, so that its agent has to hear the question on the uplink."""
    if block.spec.attach == "bridge":
        return bridge.gateway(block.cidr).partition("/")[0]
    return str(ipaddress.ip_network(block.cidr).network_address)


def target(
    wished: tuple[Way, ...], now: tuple[Way, ...], block: Block, node: Node, facts: NodeFacts
) -> Target | None:
    """What would have to be proved for one block of a peer; None where nodes carry nothing, or BIRD decides.

    ``wished``: what the network's nodes should send by; ``now``: what this peer may be sent by."""
    if wished[-1].transport == "none":
        return None
    if DIRECT not in wished and DIRECT not in now:
        if wished[-1].transport == "bgp":
            return None
        return Target(fallback="tunnel", obstacle=ALWAYS_TUNNEL)
    # a tunnel that only stands until everybody has left it is no fallback
    fallback: Fallback = "tunnel" if DIRECT in wished[:-1] else "none"
    hop = hostgw.next_hop(family_of(block.cidr), node, facts)
    if hop.obstacle:
        return Target(fallback=fallback, obstacle=hop.obstacle)
    return Target(
        fallback=fallback,
        address=hop.via,
        dev=hop.dev,
        source=hop.source,
        macs=node.macs,
        inside=inside(block),
    )


def standing(routes: Iterable[AnyObject], snapshot: Snapshot, facts: NodeFacts) -> dict[PathKey, Chosen]:
    """Which paths are direct in the kernel already: a start changes nothing before it knows better."""
    uplinks = {uplink.name for uplink in facts.uplinks}
    blocks = snapshot.blocks | borrowed.blocks(snapshot)
    direct = {r.dst for r in routes if isinstance(r, Route) and r.dev in uplinks and r.via}
    return {key_of(block): Chosen("direct", STOOD) for cidr, block in blocks.items() if cidr in direct}


class Targets:
    """Targets by path; of several blocks on one path the first in order has to answer."""

    def __init__(self) -> None:
        self.by_path: dict[PathKey, Target] = {}
        self.version = 0  # grows with every change of ``by_path`` and ``answers``
        self.answers: dict[str, str] = {}  # own block → address in it where peers expect an answer
        self._wanted: dict[PathKey, dict[str, Target]] = {}
        self._path_of: dict[str, PathKey] = {}

    def blocks(self, path: PathKey) -> list[str]:
        """The blocks that go by one path."""
        return sorted(self._wanted.get(path, ()))

    def put(self, cidr: str, wanted: tuple[PathKey, Target] | None, answers: str) -> None:
        """What one block asks for now, and (one's own) where it answers; None and "": nothing."""
        if self.answers.get(cidr, "") != answers:
            self.answers = {**self.answers, cidr: answers} if answers else _without(self.answers, cidr)
            self.version += 1
        before = self._path_of.pop(cidr, None)
        if before is not None:
            del self._wanted[before][cidr]
        if wanted is not None:
            self._path_of[cidr] = wanted[0]
            self._wanted.setdefault(wanted[0], {})[cidr] = wanted[1]
        for path in {before, wanted[0] if wanted else None} - {None}:
            assert path is not None
            blocks = self._wanted[path]
            if not blocks:
                del self._wanted[path]
            # a borrowed address comes and goes: a node's own blocks are asked about before it
            first = blocks[min(blocks, key=lambda cidr: (_is_single(cidr), cidr))] if blocks else None
            if self.by_path.get(path) != first:
                self._replace(path, first)

    def _replace(self, path: PathKey, first: Target | None) -> None:
        self.version += 1
        if first is None:
            del self.by_path[path]
        else:
            self.by_path[path] = first


def _is_single(cidr: str) -> bool:
    return cidr.endswith("/128" if ":" in cidr else "/32")


def _without(answers: dict[str, str], cidr: str) -> dict[str, str]:
    return {key: value for key, value in answers.items() if key != cidr}

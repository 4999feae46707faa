"""What a node tells the others of its ways, and when it may let go of one. Pure.

Four rules keep every packet on a way that its receiver holds, in any interleaving and after any crash:

1. a way is accepted once what receives it stands in the kernel;
2. a way is sent once, seen at one moment, this node tells that it sends it and both ends accept it;
3. a way is no longer told as sent only when the kernel sends nothing by it any more;
4. what receives a way goes once, seen at one moment, this node tells no longer that it accepts it and
   nobody tells of sending it.

The same for packets' sizes: larger ones are sent like a way, pods' links shrink like one goes.

2 and 4 look at the list of all nodes after what they wrote themselves. Whichever of two nodes looks
second sees what the other wrote. A node that is down keeps what it told, and so the others its ways.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import NamedTuple

from podway.model.resources import Endpoint, Network, Paths, Sizes
from podway.plan import mtu
from podway.plan.planner import Planner
from podway.plan.way import Way, by_family, wishes

LINGER = 1.0  # seconds that a way is accepted after the last one sent it: packets may be queued underway
NAMED = 5  # nodes that a sentence names
MTU = "mtu"  # beside the texts of ways: pods' links are larger than they need to be

Idle = frozenset[tuple[str, str]]  # (network, text of a way or MTU)


class Pods(NamedTuple):
    """What stands in the pods of a network: the largest packet they send, the smallest MTU of a link."""

    sends: int = 0
    accepts: int = 0


def pods(endpoints: Iterable[Endpoint]) -> dict[str, Pods]:
    """By network. Pods with an MTU of their own are left out."""
    found: dict[str, Pods] = {}
    for one in endpoints:
        if not one.own_mtu:
            sends, accepts = found.get(one.network, Pods(0, math.inf))  # type: ignore[arg-type]
            found[one.network] = Pods(max(sends, one.route_mtu or one.mtu), min(accepts, one.mtu))
    return found


class Now(NamedTuple):
    """What a node has told, as last listed, and what stands in its kernel."""

    told: Mapping[str, Paths]
    stands: Callable[[Way], bool]
    pods: Mapping[str, Pods]
    moved: bool = True  # every route is as planned, so that nothing is sent by a way that no longer is


def idle(planner: Planner, now: Now) -> Idle:
    """What is held and neither wanted, nor sent or received by anybody."""
    ways = {
        (name, way.text)
        for name, held in planner.inputs.held.items()
        for way in held.ways
        if way not in held.needed and way not in planner.sends(name)
    }
    sizes = {
        (name, MTU)
        for name, paths in now.told.items()
        if name in planner.inputs.sizes and paths.mtu > _least(planner, name, now)
    }
    return frozenset(ways | sizes)


def _least(planner: Planner, name: str, now: Now) -> int:
    """What pods' links need, as far as others' and one's own pods go."""
    return max(planner.inputs.sizes[name].least, now.pods.get(name, Pods()).sends)


class Lingering:
    """When each idle thing may be let go of: ``step(idle, now)`` → (those, next deadline)."""

    def __init__(self) -> None:
        self._since: dict[tuple[str, str], float] = {}

    def step(self, found: Idle, now: float) -> tuple[Idle, float | None]:
        """``now`` in seconds, monotonic."""
        self._since = {one: self._since.get(one, now) for one in found}
        ripe = frozenset(one for one, since in self._since.items() if now - since >= LINGER)
        waiting = [since + LINGER for one, since in self._since.items() if one not in ripe]
        return ripe, min(waiting, default=None)


def told(planner: Planner, now: Now, ripe: Idle) -> dict[str, Paths]:
    """By network, what to publish. What was accepted stays so while the kernel is being repaired, and until
    it is ``ripe`` to go."""
    found = {}
    for name, held in sorted(planner.inputs.held.items()):
        before = now.told.get(name, Paths())
        accepted = [way for way in held.ways if way.text in before.accepts or now.stands(way)]
        spec = planner.inputs.networks[name].spec
        sent = {*planner.sends(name), *planner.asks(name), *held.wished, *by_family(spec)}
        sent |= set() if now.moved else {way for way in held.ways if way.text in before.sends}
        accepts = _texts(way for way in accepted if (name, way.text) not in ripe)
        keys = planner.inputs.facts.keys
        found[name] = Paths(
            accepts=accepts,
            sends=_texts(way for way in sent if way.transport != "none"),
            mtu=_accepted(planner, name, now, ripe),
            sizes=_sizes(planner, name, now),
            keys=tuple((text, keys[text]) for text in accepts if text in keys),
        )
    return found


def introduction(planner: Planner, network: Network, now: Now) -> Paths:
    """What a node tells first, before it sends anything: it accepts nothing yet."""
    target = mtu.effective(network, planner.inputs.facts)
    there = now.pods.get(network.name, Pods(target, target))
    return Paths(
        sends=_texts(way for way in wishes(network.spec) if way.transport != "none"),
        mtu=there.accepts,
        sizes=Sizes(generation=mtu.generation(network), target=target, sends=max(there.sends, target)),
    )


def _there(planner: Planner, name: str, now: Now) -> Pods:
    """Where there are no pods, what the next one would be."""
    size = planner.inputs.sizes[name]
    return now.pods.get(name, Pods(size.routes, size.links))


def _accepted(planner: Planner, name: str, now: Now, ripe: Idle) -> int:
    kept = now.told[name].mtu if name in now.told and (name, MTU) not in ripe else 0
    return min(_there(planner, name, now).accepts, max(kept, _least(planner, name, now)))


def _sizes(planner: Planner, name: str, now: Now) -> Sizes:
    network = planner.inputs.networks[name]
    target = mtu.effective(network, planner.inputs.facts)
    sends = max(_there(planner, name, now).sends, target)
    return Sizes(generation=mtu.generation(network), target=target, sends=sends)


def _texts(ways: Iterable[Way]) -> tuple[str, ...]:
    return tuple(sorted(way.text for way in ways))


def progress(planner: Planner) -> list[str]:
    """What is changing in this node's networks, and whom it waits for; [] when nothing is."""
    found: list[str] = []
    for name, held in sorted(planner.inputs.held.items()):
        for way in held.ways:
            if way not in held.wished and way.transport != "none":
                found.append(f"network {name}: {way.text} goes{_awaited(planner, name, way)}")
        size, network = planner.inputs.sizes[name], planner.inputs.networks[name]
        target = mtu.effective(network, planner.inputs.facts)
        if (size.links, size.routes) != (target, target):
            late = _late(planner, name, partial(_unsettled, network))
            have = f"pods' links have {size.links}, their routes {size.routes}"
            found.append(f"network {name}: MTU becomes {target}, {have}{late}")
    return found


def _unsettled(network: Network, paths: Paths) -> bool:
    return not mtu.has_settled(paths, network)


def _awaited(planner: Planner, network: str, way: Way) -> str:
    """Whoever accepts nothing else is why the others send it."""
    wished = {one.text for one in planner.inputs.held[network].wished}
    behind = _late(planner, network, lambda paths: not wished & {*paths.accepts})
    return behind or _late(planner, network, lambda paths: way.text in paths.sends)


def _late(planner: Planner, network: str, waits: Callable[[Paths], bool]) -> str:
    nodes = planner.inputs.nodes.values()
    others = [n for n in nodes if n.name != planner.inputs.facts.name and network in n.paths]
    late = sorted(node.name for node in others if waits(node.paths[network]))
    more = f" and {len(late) - NAMED} more" if len(late) > NAMED else ""
    return f"; waits for node {', '.join(late[:NAMED])}{more}" if late else ""

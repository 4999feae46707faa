"""What a node tells the others of its ways, and when it may let go of one. Pure.

Four rules keep every packet on a way that its receiver holds, in any interleaving and after any crash:

1. a way is accepted once what receives it stands in the kernel;
2. a way is sent once, seen at one moment, this node tells that it sends it and both ends accept it;
3. a way is no longer told as sent only when the kernel sends nothing by it any more;
4. what receives a way goes once, seen at one moment, this node tells no longer that it accepts it and
   nobody tells of sending it.

2 and 4 look at the list of all nodes after what they wrote themselves. Whichever of two nodes looks
second sees what the other wrote. A node that is down keeps what it told, and so the others its ways.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from podway.model.resources import Paths
from podway.plan import mtu
from podway.plan.planner import Planner
from podway.plan.way import Way

LINGER = 1.0  # seconds that a way is accepted after the last one sent it: packets may be queued underway

Unneeded = frozenset[tuple[str, Way]]


def unneeded(planner: Planner) -> Unneeded:
    """(network, way) of what is held and neither wanted, sent nor received by anybody."""
    return frozenset(
        (name, way)
        for name, held in planner.inputs.held.items()
        for way in held.ways
        if way not in held.needed and way not in planner.sends(name)
    )


class Lingering:
    """When each unneeded way may be let go of: ``step(unneeded, now)`` → (those, next deadline)."""

    def __init__(self) -> None:
        self._since: dict[tuple[str, Way], float] = {}

    def step(self, idle: Unneeded, now: float) -> tuple[Unneeded, float | None]:
        """``now`` in seconds, monotonic."""
        self._since = {one: self._since.get(one, now) for one in idle}
        ripe = frozenset(one for one, since in self._since.items() if now - since >= LINGER)
        waiting = [since + LINGER for one, since in self._since.items() if one not in ripe]
        return ripe, min(waiting, default=None)


def told(
    planner: Planner, stands: Callable[[Way], bool], ripe: Unneeded, standing: Mapping[str, Paths]
) -> dict[str, Paths]:
    """By network, what to publish now. ``standing``: what is published; what was accepted stays so while
    the kernel is being repaired, and until it is ripe to go."""
    found = {}
    for name, held in sorted(planner.inputs.held.items()):
        before = standing.get(name, Paths()).accepts
        accepted = [way for way in held.ways if way.text in before or stands(way)]
        sent = {*planner.sends(name), *planner.asks(name), *held.wished}
        found[name] = Paths(
            accepts=_texts(way for way in accepted if (name, way) not in ripe),
            sends=_texts(way for way in sent if way.transport != "none"),
            mtu=mtu.effective(planner.inputs.networks[name], planner.inputs.facts),
        )
    return found


def _texts(ways: Iterable[Way]) -> tuple[str, ...]:
    return tuple(sorted(way.text for way in ways))

"""What many say, each saying counted: a fold that follows one change at the cost of that change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import msgspec

from podway.model.resources import Paths
from podway.plan.fragments import FragmentId
from podway.plan.way import Way


def said(paths: Mapping[str, Paths], network: str) -> list[Paths]:
    """What a node says of a network's ways, without what every node says differently."""
    return [msgspec.structs.replace(paths[network], keys=())] if network in paths else []


class Tally:
    """Which ways fragments name, each counted."""

    def __init__(self) -> None:
        self._by_fragment: dict[FragmentId, tuple[str, Way]] = {}
        self._counts: Counter[tuple[str, Way]] = Counter()

    def put(self, fragment: FragmentId, named: tuple[str, Way] | None) -> None:
        before = self._by_fragment.pop(fragment, None)
        if before is not None:
            self._counts[before] -= 1
        if named is not None:
            self._by_fragment[fragment] = named
            self._counts[named] += 1

    def of(self, network: str) -> frozenset[Way]:
        return frozenset(way for (name, way), count in self._counts.items() if name == network and count > 0)

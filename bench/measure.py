"""Samples taken in turn, what is said of them, and the row that is reported."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from typing import NamedTuple

from bench.goals import GOALS

Sample = Mapping[str, float]


class Row(NamedTuple):
    """One line of the report. ``interval``: 95 % of our figure's median; ``runs``: samples a side."""

    row: str
    ours: float
    reference: float | None
    unit: str
    runs: int
    interval: tuple[float, float] | None = None
    goal: str = ""

    @property
    def ratio(self) -> float | None:
        """Ours : reference."""
        return self.ours / self.reference if self.reference else None

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None without one."""
        return GOALS[self.goal].met(self.ours, self.ratio) if self.goal else None

    def document(self) -> dict[str, object]:
        """The row as it stands in latest.json."""
        return {
            "row": self.row,
            "ours": self.ours,
            "reference": self.reference,
            "ratio": self.ratio,
            "goal": str(GOALS[self.goal]) if self.goal else None,
            "met": self.met,
            "unit": self.unit,
            "runs": self.runs,
        }


def in_turn(sides: Mapping[str, Callable[[], Sample]], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Run every side once a round, in turn and back (A B, B A, …): side → metric → samples.

    One round more is run first and thrown away: it pays for what is made once.
    """
    taken: dict[str, dict[str, list[float]]] = {side: {} for side in sides}
    for turn in range(-1, rounds):
        order = list(sides) if turn % 2 == 0 else list(sides)[::-1]
        for side in order:
            for metric, value in sides[side]().items():
                if turn >= 0:
                    taken[side].setdefault(metric, []).append(value)
    return taken


def quantile(samples: list[float], share: float) -> float:
    """The sample below which ``share`` of all lie (nearest rank)."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def interval(samples: list[float]) -> tuple[float, float]:
    """95 % interval of the median from order statistics (n/2 ± 0.98·√n), no distribution assumed."""
    ordered, count = sorted(samples), len(samples)
    reach = 0.98 * count**0.5
    low, high = int(count / 2 - reach), int(count / 2 + reach)
    return ordered[max(0, low)], ordered[min(count - 1, high)]


def median_row(
    name: str, unit: str, ours: list[float], reference: list[float] | None = None, goal: str = ""
) -> Row:
    """A row of medians."""
    theirs = statistics.median(reference) if reference else None
    return Row(name, statistics.median(ours), theirs, unit, len(ours), interval(ours), goal)


def quantile_row(
    name: str,
    unit: str,
    share: float,
    ours: list[float],
    reference: list[float] | None = None,
    goal: str = "",
) -> Row:
    """A row of a high quantile."""
    theirs = quantile(reference, share) if reference else None
    return Row(name, quantile(ours, share), theirs, unit, len(ours), None, goal)

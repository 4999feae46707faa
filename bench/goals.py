"""What is to be reached, on two cores. One table; a row names its goal by key, or has none.

Ratios are ours : reference. A goal in a unit is held against our own figure.
"""

from __future__ import annotations

from typing import NamedTuple


class Goal(NamedTuple):
    """``bound`` in ``unit`` ("×" is the ratio); ``most`` False: at least ``bound``."""

    bound: float
    unit: str = "×"
    most: bool = True

    def met(self, ours: float, ratio: float | None) -> bool:
        """Whether the figure that the goal is about keeps to it."""
        value = ratio if self.unit == "×" else ours
        if value is None:
            return False
        return value <= self.bound if self.most else value >= self.bound

    def __str__(self) -> str:
        return f"{'≤' if self.most else '≥'} {self.bound:g} {self.unit}".rstrip()


GOALS = {
    "add bridge": Goal(0.4),
    "chain": Goal(0.1),
    "add ports": Goal(1 / 25),
    "del": Goal(1 / 25),
    "hundred adds": Goal(400, "ms"),
    "sandbox": Goal(1.08),
    "sandbox chain": Goal(1.12),
    "throughput": Goal(0.98, most=False),
    "beside flanneld": Goal(1.0, most=False),
    "routes": Goal(2, most=False),
    "memory": Goal(45, "MiB"),
    "memory 50": Goal(50, "MiB"),
    "memory 1000": Goal(60, "MiB"),
    "idle": Goal(0.5, "% of a core"),
    "ready": Goal(300, "ms"),
    "wake-ups": Goal(2, ""),  # in 20 s: a heartbeat every ten
    "repair": Goal(50, "ms"),
    "peer change": Goal(50, "ms"),
    "device back": Goal(1000, "ms"),
    "join": Goal(0.8),
    "meshed": Goal(7, "s"),
    "converge": Goal(1.2),
    "gave up": Goal(0, ""),
    "none": Goal(0, ""),
}

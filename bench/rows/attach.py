"""Routed pods beside bridged ones, both Podway's: throughput and round trips on one node and between two.

The reference is the bridge: a ratio of throughput above 1, and of round trips below, speaks for routed.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from bench.host import ended
from bench.measure import Row, in_turn, median_row
from bench.rows.traffic import Wiring, ours, round_trips, streams


def throughput(rounds: int, directory: Path) -> list[Row]:
    """iperf3, one TCP stream, Gbit/s."""
    with _sides(directory, "iperf3", "-s") as sides:
        taken = in_turn({name: streams(side) for name, side in sides.items()}, rounds)
    return [
        median_row(
            f"TCP throughput, {where}, routed / bridge",
            "Gbit/s",
            taken["routed"][where],
            taken["bridge"][where],
        )
        for where in taken["routed"]
    ]


def latency(rounds: int, directory: Path) -> list[Row]:
    """One byte there and back, the median of many, in µs."""
    taken = round_trips(_sides, rounds, directory)
    return [
        median_row(f"round trip, {what}, routed / bridge", "µs", taken["routed"][what], taken["bridge"][what])
        for what in taken["routed"]
    ]


@contextlib.contextmanager
def _sides(directory: Path, *server: str) -> Iterator[dict[str, Wiring]]:
    """Both, with ``server`` running in the pods b and c of each."""
    with contextlib.ExitStack() as stack:
        sides = {}
        for attach in ("routed", "bridge"):
            (place := directory / attach).mkdir()
            sides[attach] = stack.enter_context(ours(place, attach, attach))
            for pod in (sides[attach].b, sides[attach].c):
                stack.enter_context(ended(pod.spawn(*server)))
        time.sleep(0.5)  # until the servers listen
        yield sides

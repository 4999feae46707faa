"""Pod to pod between two nodes, VXLAN and host-gw: beside the same by hand, and beside flanneld."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import between
from bench.between import Pair
from bench.host import ended
from bench.measure import Row, Sample, in_turn, median_row
from bench.rows.traffic import PING, TRIPS, stream

TRANSPORTS = ("vxlan", "host-gw")


def throughput(rounds: int, directory: Path) -> list[Row]:
    """iperf3, one TCP stream, Gbit/s at the receiver."""
    rows = []
    for transport in TRANSPORTS:
        with _sides(directory / transport, transport, "iperf3", "-s") as sides:
            taken = in_turn({name: _streams(pair) for name, pair in sides.items()}, rounds)
        for side, words, goal in (
            ("hand", "by hand", "throughput"),
            ("theirs", "flanneld", "beside flanneld"),
        ):
            name = f"TCP throughput between nodes, {transport} / {words}"
            rows.append(median_row(name, "Gbit/s", taken["ours"]["rate"], taken[side]["rate"], goal))
    return rows


def latency(rounds: int, directory: Path) -> list[Row]:
    """One byte there and back, the median of many, in µs."""
    program = directory / "pingpong"
    subprocess.run(["cc", "-O2", "-o", program, PING], check=True)
    rows = []
    for transport in TRANSPORTS:
        with _sides(directory / transport, transport, str(program)) as sides:
            taken = in_turn({name: _trips(pair, program) for name, pair in sides.items()}, rounds)
        for protocol in ("TCP", "UDP"):
            for side, words in (("hand", "by hand"), ("theirs", "flanneld")):
                name = f"round trip between nodes, {protocol}, {transport} / {words}"
                rows.append(median_row(name, "µs", taken["ours"][protocol], taken[side][protocol]))
    return rows


@contextlib.contextmanager
def _sides(directory: Path, transport: str, *server: str) -> Iterator[dict[str, Pair]]:
    """All sides, with ``server`` running in the second pod of each."""
    with contextlib.ExitStack() as stack:
        sides = {}
        for name, side in between.SIDES.items():
            place = directory / name
            place.mkdir(parents=True)
            sides[name] = stack.enter_context(side(place, transport))
            stack.enter_context(ended(sides[name].pods[1].spawn(*server)))
        time.sleep(0.5)  # until the servers listen
        yield sides


def _streams(pair: Pair) -> Callable[[], Sample]:
    return lambda: {"rate": stream(pair.pods[0], pair.there)}


def _trips(pair: Pair, program: Path) -> Callable[[], Sample]:
    def sample() -> Sample:
        pod, there = pair.pods[0], pair.there
        return {
            protocol.upper(): float(pod.run(f"{program} {protocol} {there} {TRIPS}"))
            for protocol in ("tcp", "udp")
        }

    return sample

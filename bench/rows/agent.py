"""The agent by itself: how soon it is ready, what it holds, and how often it wakes when nothing happens."""

from __future__ import annotations

import time
from pathlib import Path

from bench import podway
from bench.host import Host, host
from bench.measure import Row, median_row, quantile_row

IDLE = 20  # seconds of one look
SETTLE = 3  # seconds after READY until what was deferred is done


def _node(directory: Path, place: Host) -> podway.Node:
    node = podway.Node(place, directory, f"sqlite:{directory}/store.db")
    node.apply(podway.network("pods", "10.98.0.0/16"), podway.node(place.name, "198.51.100.2/24"))
    return node


def ready(rounds: int, directory: Path) -> list[Row]:
    """From exec to READY=1, ms; the first start on an empty state is among them."""
    taken = []
    with host("idle") as place:
        node = _node(directory, place)
        for _ in range(rounds):
            with node.agent() as (_, seconds):
                taken.append(seconds * 1e3)
    return [median_row("agent ready", "ms", taken, goal="ready")]


def idle(rounds: int, directory: Path) -> list[Row]:
    """Memory, CPU and wake-ups of an idle agent; one look is 20 s, there are a tenth of ``rounds``."""
    resident, proportional, busy, awake = [], [], [], []
    with host("idle") as place:
        node = _node(directory, place)
        with node.agent() as (pid, _):
            time.sleep(SETTLE)
            for _ in range(max(1, rounds // 10)):
                times, cpu = _look(pid)
                awake.append(float(times))
                busy.append(cpu / IDLE * 1e6)
                sizes = memory(pid)
                resident.append(sizes["Rss"])
                proportional.append(sizes["Pss"])
    return [
        quantile_row("agent memory, RSS", "MiB", 1, resident, goal="memory"),
        quantile_row("agent memory, PSS", "MiB", 1, proportional),
        median_row("agent idle, CPU", "µs/s", busy),
        median_row(f"agent idle, wake-ups in {IDLE} s", "", awake, goal="wake-ups"),
    ]


def _look(pid: int) -> tuple[int, float]:
    """(Times in IDLE seconds that threads woke, CPU seconds used); a second's quiet tells two times apart."""
    times, awake, began = 0, False, cpu(pid)
    before = _switches(pid)
    for _ in range(IDLE):
        time.sleep(1)
        after = _switches(pid)
        times += after != before and not awake
        before, awake = after, after != before
    return times, cpu(pid) - began


def _switches(pid: int) -> int:
    """Voluntary context switches of all threads: each is a wait that ended, or will."""
    lines = [
        line
        for status in Path(f"/proc/{pid}/task").glob("*/status")
        for line in status.read_text().splitlines()
        if line.startswith("voluntary_ctxt_switches")
    ]
    return sum(int(line.split()[1]) for line in lines)


def cpu(pid: int) -> float:
    """Seconds on a CPU of all threads (proc(5) schedstat, first field, ns)."""
    files = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(file.read_text().split()[0]) for file in files) / 1e9


def memory(pid: int) -> dict[str, float]:
    """Sizes of smaps_rollup in MiB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {name: int(value.split()[0]) / 1024 for name, _, value in (line.partition(":") for line in lines)}

"""A lab from start to end, for somebody who sees it for the first time: ``make lab``.

Without a wish it is four, one after the other: pods of one host as Docker has them, nodes of one LAN by
plain routes, the same by VXLAN, and routed pods by BGP; at the end all four in one table.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from podway.lab import drawing, guide, lab, matrix
from podway.lab.matrix import Summary, Verdict
from podway.lab.topology import Topology, default
from podway.lab.way import Sighting

if TYPE_CHECKING:
    from rich.table import Table

NAME = "demo"

#: title and topology of each stop
TOUR = (
    ("One host: docker's bridge", default(1, 3, "docker")),
    ("Three nodes on a LAN: host-gw, plain routes", default(3, 2, "flannel-host-gw")),
    ("Three nodes, whatever lies between: VXLAN", default(3, 2, "flannel-vxlan")),
    ("Three nodes, no bridge, routes told by BGP", default(3, 2, "calico-bgp")),
)


HEADINGS = (
    "preset",
    "nodes",
    "pods",
    "largest packet",
    "around it",
    "from pod to pod",
    "pairs reached",
    "up in",
)


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """What one lab came to: ``up`` in seconds, ``largest`` packet between pods in bytes, and how one packet
    went from pod to pod: sightings in order of time."""

    topology: Topology
    result: Summary
    up: float
    largest: int
    way: tuple[Sighting, ...]


def run(topology: Topology, whole: bool = True) -> Shown:
    """Up, test, walk (only the packet's way unless ``whole``), down. The lab ends whatever happens."""
    screen = drawing.console()
    with drawing.progress() as show:
        place, saved = lab.up(lab.free_name(NAME), topology, None, show)
    try:
        with drawing.progress() as show:
            before = time.monotonic()
            verdicts = lab.test(place, show)
            tested = time.monotonic() - before
        drawing.matrix(screen, verdicts)
        way = guide.walk(screen, place, whole)
    finally:
        before = time.monotonic()
        lab.destroy(place)
    down = time.monotonic() - before
    result = matrix.summarize(verdicts)
    words = f"{drawing.summary(topology, saved.seconds)}, {result.pairs} pairs tried in {tested:.1f} s"
    screen.print(f"\n{words}, down in {down:.1f} s", soft_wrap=True)
    screen.print(result.line, style="bold green" if result.ok else "bold red", soft_wrap=True)
    return Shown(
        topology=topology,
        result=result,
        up=sum(saved.seconds.values()),
        largest=max((one.size for one in verdicts if _between_pods(topology, one)), default=0),
        way=tuple(way),
    )


def tour() -> bool:
    """Every stop, and the table of them all; whether all pairs of all were reached."""
    screen = drawing.console()
    shown: list[Shown] = []
    for title, topology in TOUR:
        screen.rule(title)
        shown.append(run(topology, whole=not shown))
    screen.rule("Side by side")
    screen.print(_table(shown))
    return all(one.result.ok for one in shown)


def _between_pods(topology: Topology, verdict: Verdict) -> bool:
    pods = {pod for machine in topology.machines for pod in machine.pods}
    return {verdict.sender, verdict.receiver} <= pods


def _table(shown: Sequence[Shown]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in HEADINGS:
        table.add_column(heading)
    for one in shown:
        nodes = one.topology.of("node")
        table.add_row(
            str(one.topology.documents[0]["spec"]["preset"]),
            str(len(nodes)),
            str(sum(len(node.pods) for node in nodes)),
            f"{one.largest} bytes",
            next((seen.outer for seen in one.way if seen.outer), "nothing"),
            f"{len(one.way)} links, {one.way[-1].at / 1000:.0f} µs" if one.way else "",
            f"{one.result.reached} of {one.result.pairs}",
            f"{one.up:.1f} s",
        )
    return table

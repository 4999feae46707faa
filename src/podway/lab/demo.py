"""A lab from start to end, for somebody who sees it for the first time: ``make lab``."""

from __future__ import annotations

import time

from podway.lab import drawing, guide, lab, matrix
from podway.lab.matrix import Summary
from podway.lab.topology import Topology

NAME = "demo"


def run(topology: Topology) -> Summary:
    """Up, test, walk, down; the test's result. The lab ends whatever happens."""
    screen = drawing.console()
    with drawing.progress() as show:
        place, saved = lab.up(lab.free_name(NAME), topology, None, show)
    try:
        with drawing.progress() as show:
            started = time.monotonic()
            verdicts = lab.test(place, show)
            tested = time.monotonic() - started
        drawing.matrix(screen, verdicts)
        guide.walk(screen, place)
    finally:
        started = time.monotonic()
        lab.destroy(place)
    down = time.monotonic() - started
    result = matrix.summarize(verdicts)
    words = f"{drawing.summary(topology, saved.seconds)}, {result.pairs} pairs tried in {tested:.1f} s"
    screen.print(f"\n{words}, down in {down:.1f} s", soft_wrap=True)
    screen.print(result.line, style="bold green" if result.ok else "bold red", soft_wrap=True)
    return result

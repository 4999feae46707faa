"""What a lab shows while it works: one live line per phase on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from podway.lab.builder import Progress
from podway.lab.topology import Topology

if TYPE_CHECKING:
    from rich.console import Console

PLAIN_WIDTH = 160

PHASES = {
    "wiring": "segments, routers and namespaces",
    "agents": "an agent on every node",
    "pods": "pods, attached by the CNI plugin",
    "routes": "every node knows every peer",
}


def console(stderr: bool = False) -> Console:
    """Where people read: as wide as the terminal, or wide enough for a table in a file."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, highlight=False, width=None if stream.isatty() else PLAIN_WIDTH)


class Lines:
    """Progress where nobody can move a cursor: a line when a phase is finished."""

    def __call__(self, progress: Progress) -> None:
        """Show one step."""
        if progress.phase and progress.done == progress.total and progress.total:
            words = PHASES.get(progress.phase, progress.phase)
            line = f"{words}: {progress.done} of {progress.total}"
            if line != getattr(self, "_last", ""):
                print(line, file=sys.stderr, flush=True)
            self._last = line


class Bars:
    """Progress on a terminal."""

    def __init__(self, screen: Console) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress

        columns = (
            SpinnerColumn(finished_text="[green]✓"),
            TextColumn("{task.description:34}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        self.bars = RichProgress(*columns, console=screen)
        self._tasks: dict[str, int] = {}

    def __call__(self, progress: Progress) -> None:
        """Show one step."""
        if not progress.phase:
            return
        name = progress.phase
        if name not in self._tasks:
            words = PHASES.get(name, name)
            self._tasks[name] = int(self.bars.add_task(words, total=progress.total))
        from rich.progress import TaskID

        self.bars.update(TaskID(self._tasks[name]), completed=progress.done, total=progress.total)


@contextmanager
def progress() -> Iterator[Lines | Bars]:
    """How to show progress here, for the body; on stderr, so that results can be piped."""
    if not sys.stderr.isatty():
        yield Lines()
        return
    shown = Bars(console(stderr=True))
    with shown.bars:
        yield shown


def summary(topology: Topology, seconds: dict[str, float]) -> str:
    """ "3 nodes, 6 pods up in 1.1 s (agents 0.7, …)"."""
    nodes = topology.of("node")
    pods = sum(len(node.pods) for node in nodes)
    parts = ", ".join(f"{name} {took:.2f}" for name, took in seconds.items())
    total = sum(seconds.values())
    return f"{len(nodes)} nodes, {pods} pods up in {total:.1f} s ({parts})"

"""What a lab shows while it works: one live line per phase on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from podway.lab.builder import Progress
from podway.lab.condition import Condition
from podway.lab.matrix import Verdict, summarize
from podway.lab.topology import Topology

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

PLAIN_WIDTH = 160
MOST_COLUMNS = 16
MOST_FAILURES = 20
TITLE = "ICMP, TCP, UDP, full MTU unfragmented; IPv4 and IPv6"
LEGEND = "✓ all answered, sender seen as itself; ✗ so many lost; NAT seen as another"

PHASES = {
    "wiring": "segments, routers and namespaces",
    "store": "an etcd for all nodes",
    "routers": "routers that speak BGP, by FRR",
    "agents": "an agent on every node",
    "pods": "pods, attached by the CNI plugin",
    "routes": "every node knows every peer",
    "probes": "every pair, both ways",
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


def matrix(screen: Console, verdicts: Sequence[Verdict]) -> None:
    """The matrix as a table (of what failed only, when it is large), then what failed, then the verdict."""
    from rich.text import Text

    cells: dict[tuple[str, str], list[Verdict]] = {}
    for verdict in verdicts:
        cells.setdefault((verdict.sender, verdict.receiver), []).append(verdict)
    names = list(dict.fromkeys(verdict.sender for verdict in verdicts))
    targets = [*names, *dict.fromkeys(v.receiver for v in verdicts if v.receiver not in names)]
    if len(targets) <= MOST_COLUMNS:
        screen.print(_table(names, targets, cells))
    failures = [
        line for (sender, receiver), pair in cells.items() for line in _failure(sender, receiver, pair)
    ]
    for line in failures[:MOST_FAILURES]:
        screen.print(Text(line, style="red"), soft_wrap=True)
    if len(failures) > MOST_FAILURES:
        screen.print(f"… and {len(failures) - MOST_FAILURES} more (-o json has them all)")
    result = summarize(verdicts)
    screen.print(Text(result.line, style="bold green" if result.ok else "bold red"), soft_wrap=True)


def _failure(sender: str, receiver: str, verdicts: Sequence[Verdict]) -> Iterator[str]:
    """What went wrong between two, in one line: each reason once, with what it befell."""
    reasons: dict[str, list[str]] = {}
    for verdict in verdicts:
        if not verdict.reached or verdict.nat:
            reasons.setdefault(verdict.error, []).append(f"{verdict.family} {verdict.protocol}")
    if reasons:
        parts = (f"{', '.join(kinds)}: {reason}" for reason, kinds in reasons.items())
        yield f"{sender} → {receiver}  {'; '.join(parts)}"


def _table(
    names: Sequence[str], targets: Sequence[str], cells: dict[tuple[str, str], list[Verdict]]
) -> Table:
    """Narrow enough for three nodes on 80 columns: a pod's number stands below its node's name."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=TITLE, caption=LEGEND, box=SIMPLE_HEAD, padding=0)
    table.add_column("from ＼ to", no_wrap=True)
    for target in targets:
        head, dash, tail = target.rpartition("-")
        table.add_column(f"{head}\n-{tail}" if dash else target, justify="center", no_wrap=True)
    for name in names:
        table.add_row(name, *(_cell(cells.get((name, target), [])) for target in targets))
    return table


def _cell(verdicts: Sequence[Verdict]) -> Text:
    from rich.text import Text

    if not verdicts:
        return Text("")
    lost = sum(not verdict.reached for verdict in verdicts)
    if lost:
        return Text(f"✗ {lost}/{len(verdicts)}", style="red")
    if any(verdict.nat for verdict in verdicts):
        return Text("NAT", style="bold red")
    return Text("✓", style="green")


def condition(screen: Console, one: Condition) -> None:
    """A lab and its nodes."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    screen.print(f"lab {one.name}: {one.state}" + (f", init is process {one.init}" if one.init else ""))
    if one.state == "dead":
        screen.print(f"  podway lab down --name {one.name} removes what is left of it, {one.directory}")
        return
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("node", "addresses", "pods", "blocks", "agent"):
        table.add_column(heading)
    for node in one.nodes:
        pods = f"{node.attached} of {len(node.pods)}"
        words = "\n".join(node.problems) or "ok"
        table.add_row(node.name, "\n".join(node.addresses), pods, "\n".join(node.blocks), words)
    screen.print(table)
    for fault in one.faults:
        screen.print(f"  fault: {fault}", markup=False, soft_wrap=True)


def summary(topology: Topology, seconds: dict[str, float]) -> str:
    """ "3 nodes, 6 pods up in 1.1 s (agents 0.7, …)"."""
    nodes = topology.of("node")
    pods = sum(len(node.pods) for node in nodes)
    parts = ", ".join(f"{name} {took:.2f}" for name, took in seconds.items())
    total = sum(seconds.values())
    return f"{_count(len(nodes), 'node')}, {_count(pods, 'pod')} up in {total:.1f} s ({parts})"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"

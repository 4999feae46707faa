"""The table that people read."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

import podway
from bench.goals import GOALS
from bench.measure import Row
from bench.reference import references

VERSIONS = (
    ["iptables", "-V"],
    ["nft", "-v"],
    ["ip", "-V"],
    ["containerd", "--version"],
    ["runc", "--version"],
    ["iperf3", "--version"],
)


def show(measured: Sequence[Row]) -> None:
    """Print the rows and the versions that they are about."""
    table = Table(box=box.SIMPLE, title="Podway : reference, medians; interval: 95 % of our median")
    for column in ("row", "ours", "interval", "reference", "unit", "ratio", "goal", "met", "runs"):
        table.add_column(column, justify="left" if column in ("row", "unit", "goal") else "right")
    for row in measured:
        table.add_row(*_cells(row))
    console = Console(width=None if Console().is_terminal else 150)
    console.print(table)
    console.print("\n".join(versions()), highlight=False)


def _cells(row: Row) -> list[str]:
    spread = "–".join(map(_number, row.interval)) if row.interval else ""
    return [
        row.row,
        _number(row.ours),
        spread,
        "" if row.reference is None else _number(row.reference),
        row.unit,
        "" if row.ratio is None else f"{row.ratio:.3f}",
        str(GOALS[row.goal]) if row.goal else "",
        {True: "[green]yes[/]", False: "[red]no[/]", None: ""}[row.met],
        str(row.runs),
    ]


README = Path(__file__).resolve().parents[1] / "README.md"
LATEST = Path(__file__).with_name("latest.json")
BEGIN, END = "<!-- bench -->\n", "<!-- /bench -->\n"


def keep(measured: Sequence[Row], latest: Path = LATEST, readme: Path = README) -> None:
    """Every row as it was measured last: all in ``latest``, those with a goal between the README's marks."""
    known: list[dict[str, Any]] = json.loads(latest.read_text()) if latest.exists() else []
    new = {row.row: row.document() for row in measured}
    kept = [new.pop(one["row"], one) for one in known] + list(new.values())
    latest.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    _record(kept, readme)


def _record(documents: Sequence[Mapping[str, Any]], readme: Path) -> None:
    lines = ["| | Podway | reference | | ratio | goal | met |", "|---|---:|---:|---|---:|---|---|"]
    for row in documents:
        if row["goal"]:
            reference = "" if row["reference"] is None else _number(row["reference"])
            ratio = "" if row["ratio"] is None else f"{row['ratio']:.3f}"
            cells = [row["row"], _number(row["ours"]), reference, row["unit"], ratio, row["goal"]]
            lines.append(f"| {' | '.join(cells)} | {'yes' if row['met'] else 'no'} |")
    lines += ["", *(f"{line}." if line == versions()[-1] else f"{line};" for line in versions())]
    before, begin, rest = readme.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{readme} has no marks {BEGIN.strip()} and {END.strip()}")
    readme.write_text(before + begin + "\n" + "\n".join(lines) + "\n\n" + end + after)


def _number(value: float) -> str:
    return f"{value:.4g}" if value < 1000 else f"{value:.0f}"


def versions() -> list[str]:
    """What was compared, on what."""
    lines = [
        f"podway {podway.__version__}, Python {platform.python_version()}, Linux {platform.release()}",
        f"reference plugins: {', '.join(reference.name for reference in references())}",
    ]
    for command in VERSIONS:
        try:
            done = subprocess.run(command, capture_output=True, text=True)
        except FileNotFoundError:
            lines.append(f"{command[0]}: not installed")
        else:
            lines.append((done.stdout or done.stderr).splitlines()[0])
    return lines

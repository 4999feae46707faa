"""Proves what the report says of its samples (turns, quantiles, ratios, goals), and that chains run right."""

from __future__ import annotations

import json
import random
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from bench.chain import Attachment, Chain
from bench.measure import Row, in_turn, interval, median_row, quantile

from bench import built, reference, report

ROOT = Path(__file__).parents[2]
ECHO = """#!/bin/sh
cat > {directory}/$CNI_COMMAND.{name}.json
echo {name} $CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME $CNI_NETNS >> {directory}/calls
printf '{{"from": "{name}"}}'
"""


def test_sides_take_turns_and_the_first_round_is_thrown_away() -> None:
    calls: list[str] = []

    def side(name: str) -> dict[str, float]:
        calls.append(name)
        return {"ms": float(len(calls))}

    taken = in_turn({"a": lambda: side("a"), "b": lambda: side("b")}, 4)
    assert "".join(calls) == "ba" + "ab" + "ba" + "ab" + "ba"
    assert len(taken["a"]["ms"]) == 4
    assert min(taken["a"]["ms"] + taken["b"]["ms"]) == 3.0


def test_the_interval_holds_the_median_of_its_source() -> None:
    source = random.Random(1)
    found = [interval([source.gauss(10, 2) for _ in range(20)]) for _ in range(400)]
    share = sum(low <= 10 <= high for low, high in found) / len(found)
    assert share > 0.93


def test_a_quantile_is_a_sample() -> None:
    assert quantile([float(number) for number in range(100)], 0.99) == 99.0
    assert quantile([5.0], 0.95) == 5.0


@pytest.mark.parametrize(("ours", "met"), [(0.9, True), (1.1, True), (1.3, False)])
def test_a_ratio_is_held_against_its_goal(ours: float, met: bool) -> None:
    row = median_row("sandbox", "ms", [ours] * 3, [1.1] * 3, "sandbox")
    assert row.met is met
    assert row.document()["goal"] == "≤ 1.08 ×"
    assert list(row.document()) == ["row", "ours", "reference", "ratio", "goal", "met", "unit", "runs"]


@pytest.mark.parametrize(
    ("words", "says"), [(["--rounds", "9"], "fewer than 10 say nothing"), (["foo"], "invalid choice: 'foo'")]
)
def test_a_bench_that_makes_no_sense_is_refused(words: list[str], says: str) -> None:
    """Before anything is made."""
    done = subprocess.run([sys.executable, "-m", "bench", *words], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2 and says in done.stderr


def test_what_can_not_be_built_leaves_out_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiler that fails, as without a network; one that works, as with it."""
    monkeypatch.setattr(built, "CACHE", tmp_path)
    monkeypatch.setattr(reference, "CACHE", tmp_path)
    compiler = tmp_path / "go"
    compiler.write_text("#!/bin/sh\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert "their rows are missing" in reference.prepare()
    assert [one.directory for one in reference.references()] == [reference.DEBIAN]
    compiler.write_text("#!/bin/sh\ntouch $GOBIN/bridge\n")
    assert reference.prepare() == ""
    assert [one.backend for one in reference.references()] == ["iptables", "iptables", "nftables"]


def test_the_readme_gets_the_rows_that_have_a_goal(tmp_path: Path) -> None:
    """Between its marks, each row as it was measured last; without marks it is left alone."""
    page, latest = tmp_path / "README.md", tmp_path / "latest.json"
    page.write_text(f"above\n{report.BEGIN}old{report.END}below\n")
    rows = [
        median_row("RunPodSandbox / host", "ms", [1.0] * 3, [1.1] * 3, "sandbox"),
        median_row("beside", "ms", [1.0] * 3),
    ]
    report.keep(rows, latest, page)
    once = page.read_text()
    assert "| RunPodSandbox / host | 1 | 1.1 | ms | 0.909 | ≤ 1.08 × | yes |" in once
    assert once.startswith("above\n") and once.endswith("below\n")
    assert "old" not in once and "beside" not in once
    report.keep(rows[1:], latest, page)
    assert page.read_text() == once and len(json.loads(latest.read_text())) == 2
    report.keep([median_row("RunPodSandbox / host", "ms", [2.0] * 3, [1.0] * 3, "sandbox")], latest, page)
    assert "| RunPodSandbox / host | 2 | 1 | ms | 2.000 | ≤ 1.08 × | no |" in page.read_text()
    assert report.README.read_text().count(report.BEGIN) == 1
    page.write_text("no marks\n")
    with pytest.raises(ValueError):
        report.keep(rows, latest, page)
    assert page.read_text() == "no marks\n"


def test_a_row_without_a_goal_is_neither_met_nor_missed() -> None:
    assert Row("x", 1.0, None, "ms", 3).met is None


def test_a_chain_hands_on_results_and_only_the_capabilities_asked_for(tmp_path: Path) -> None:
    for name in ("one", "two"):
        program = tmp_path / name
        program.write_text(ECHO.format(directory=tmp_path, name=name))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    plugins = [{"type": "one", "capabilities": {"mac": True}}, {"type": "two"}]
    chain = Chain({"cniVersion": "1.0.0", "name": "net", "plugins": plugins}, str(tmp_path))
    attachment = Attachment("c1", "/run/netns/x", {"mac": "02:00:00:00:00:01", "ips": ["10.0.0.1"]})
    assert chain.add(attachment) == {"from": "two"}
    chain.delete(attachment, {"from": "two"})
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [call.split()[:2] for call in calls] == [
        ["one", "ADD"],
        ["two", "ADD"],
        ["two", "DEL"],
        ["one", "DEL"],
    ]
    first = json.loads((tmp_path / "ADD.one.json").read_text())
    second = json.loads((tmp_path / "ADD.two.json").read_text())
    assert first["runtimeConfig"] == {"mac": "02:00:00:00:00:01"}
    assert "capabilities" not in first and "prevResult" not in first
    assert second["prevResult"] == {"from": "one"} and "runtimeConfig" not in second

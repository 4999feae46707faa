"""Podway's drop-in plugins beside the reference plugins, on the same inputs: no difference without a name."""

from __future__ import annotations

from pathlib import Path

import pytest
from differ_cases import VERSIONS, cases
from differ_rules import DELIBERATE, UPSTREAM, Rule, unexplained
from differ_world import Case, Side
from differential import compare, debian, ours, release
from hypothesis import HealthCheck, Phase, given, settings

pytestmark = pytest.mark.kernel

EXAMPLES, THOUSANDS = 12, 2000
_FEW = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
_MANY = settings(_FEW, max_examples=THOUSANDS, derandomize=False)


def _agree(case: Case, left: Side, right: Side, rules: tuple[Rule, ...]) -> None:
    (found,) = compare(case, left, right)
    rest = unexplained(found, rules)
    assert not rest, "\n".join([f"{left.name} and {right.name} differ:", *map(str, rest), str(case)])


@_FEW
@given(cases())
def test_ours_and_the_current_release(case: Case) -> None:
    _agree(case, release(), ours(), DELIBERATE)


@settings(_FEW, max_examples=EXAMPLES // 2)
@given(cases(VERSIONS[:-1]))
def test_debians_and_the_current_release(case: Case) -> None:
    """What upstream changed itself is known, so the harness sees what it should."""
    _agree(case, debian(), release(), UPSTREAM)


@pytest.mark.soak
@_MANY
@given(cases())
def test_ours_and_the_current_release_thousands(case: Case) -> None:
    _agree(case, release(), ours(), DELIBERATE)


def test_every_deliberate_difference_is_told() -> None:
    page = (Path(__file__).parents[2] / "docs" / "cni.md").read_text()
    missing = [rule.name for rule in DELIBERATE if f"`{rule.name}`" not in page]
    assert not missing

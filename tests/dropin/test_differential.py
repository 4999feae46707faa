"""Podway's drop-in plugins beside the reference plugins, on the same inputs: no difference without a name."""

from __future__ import annotations

from pathlib import Path

import pytest
from differ_asking import asking
from differ_cases import VERSIONS, cases, dhcp_cases, inner_cases, loopback_cases
from differ_options import FOLLOWERS
from differ_rules import DELIBERATE, UPSTREAM, Rule, unexplained
from differ_world import Case, Side
from differential import compare, debian, installed, ours, release
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from podway.cni import dropin

pytestmark = pytest.mark.kernel

EXAMPLES, THOUSANDS = 12, 2000
#: names that are ours in a chain whose others are the reference's
MIXED = [
    ("bridge", "ptp", "macvlan", "host-device", "tap", "host-local"),
    ("portmap", "bandwidth", "firewall", "tuning", "sbr"),
    ("host-local", "static"),
]
CHAINS = asking(cases())
INNER = asking(inner_cases(followers=FOLLOWERS))
_FEW = settings(
    max_examples=EXAMPLES,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
_MANY = settings(_FEW, max_examples=THOUSANDS)
_LONG = pytest.mark.timeout(4 * 3600)  # four seconds a case, where many packets get no answer


def _agree(case: Case, left: Side, right: Side, rules: tuple[Rule, ...]) -> None:
    (found,) = compare(case, left, right)
    rest = unexplained(found, rules)
    assert not rest, "\n".join([f"{left.name} and {right.name} differ:", *map(str, rest), str(case)])


@_FEW
@given(CHAINS)
def test_ours_and_the_current_release(case: Case) -> None:
    _agree(case, release(), ours(), DELIBERATE)


@settings(_FEW, max_examples=EXAMPLES // 3)
@given(CHAINS)
def test_our_executables_with_their_agent(case: Case) -> None:
    """As a runtime has them: the compiled program, the socket, the agent."""
    _agree(case, release(), installed(*dropin.NAMES), DELIBERATE)


@settings(_FEW, max_examples=EXAMPLES // 3)
@given(CHAINS | INNER, st.sampled_from(MIXED))
def test_ours_and_theirs_in_one_chain(case: Case, names: tuple[str, ...]) -> None:
    """Either is first: prevResult goes from one to the other, and host-local's files too."""
    _agree(case, release(), installed(*names), DELIBERATE)


@_FEW
@given(INNER)
def test_ours_and_the_current_release_of_links_in_the_pod(case: Case) -> None:
    _agree(case, release(), ours(), DELIBERATE)


@settings(_FEW, max_examples=EXAMPLES // 2)
@given(loopback_cases())
def test_ours_and_the_current_release_of_loopback(case: Case) -> None:
    _agree(case, release(), ours(), DELIBERATE)


@settings(_FEW, max_examples=EXAMPLES // 4)
@given(dhcp_cases())
def test_ours_and_the_current_release_of_leases(case: Case) -> None:
    """The reference's needs its daemon, ours the agent."""
    _agree(case, release(), installed(*dropin.NAMES), DELIBERATE)


@settings(_FEW, max_examples=EXAMPLES // 2)
@given(cases(VERSIONS[:-1]))
def test_debians_and_the_current_release(case: Case) -> None:
    """What upstream changed itself is known, so the harness sees what it should."""
    _agree(case, debian(), release(), UPSTREAM)


@pytest.mark.soak
@_LONG
@_MANY
@given(CHAINS)
def test_ours_and_the_current_release_thousands(case: Case) -> None:
    _agree(case, release(), ours(), DELIBERATE)


@pytest.mark.soak
@_LONG
@settings(_MANY, max_examples=THOUSANDS // 2)
@given(INNER)
def test_links_in_the_pod_thousands(case: Case) -> None:
    _agree(case, release(), ours(), DELIBERATE)


@pytest.mark.soak
@_LONG
@settings(_MANY, max_examples=THOUSANDS // 10)
@given(loopback_cases())
def test_loopback_many(case: Case) -> None:
    _agree(case, release(), ours(), DELIBERATE)


@pytest.mark.soak
@_LONG
@settings(_MANY, max_examples=THOUSANDS // 20)
@given(dhcp_cases())
def test_leases_many(case: Case) -> None:
    _agree(case, release(), installed(*dropin.NAMES), DELIBERATE)


@pytest.mark.soak
@_LONG
@settings(_MANY, max_examples=THOUSANDS // 4)
@given(CHAINS | INNER, st.sampled_from([tuple(dropin.NAMES), *MIXED]))
def test_executables_of_both_thousands(case: Case, names: tuple[str, ...]) -> None:
    _agree(case, release(), installed(*names), DELIBERATE)


def test_every_deliberate_difference_is_told() -> None:
    page = (Path(__file__).parents[2] / "docs" / "cni.md").read_text()
    missing = [rule.name for rule in DELIBERATE if f"`{rule.name}`" not in page]
    assert not missing

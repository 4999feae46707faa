"""Podway's drop-in plugins beside the reference plugins, for the links that the guest's kernel makes."""

from __future__ import annotations

import pytest
from differ_asking import asking
from differ_cases import inner_cases, vlan_cases, vrf_cases
from differ_options import FOLLOWERS
from differ_rules import DELIBERATE, unexplained
from differ_world import Case
from differential import compare, ours, release
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

pytestmark = [pytest.mark.guest, pytest.mark.soak]

COUNT = 12
CASES = {
    "links": asking(inner_cases(("ipvlan", "vlan", "dummy"), FOLLOWERS)),
    "vlans of a bridge": vlan_cases(),
    "vrf": vrf_cases(),
}


def agree(cases: st.SearchStrategy[Case], count: int) -> None:
    """All of them are looked at before the differences are told: a guest takes its time to boot."""
    told: list[str] = []

    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases)
    def look(case: Case) -> None:
        (found,) = compare(case, release(), ours())
        rest = unexplained(found, DELIBERATE)
        told.extend([str(case), *map(str, rest)] if rest else [])

    look()
    assert not told, "\n".join(told)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", CASES)
def test_ours_and_the_current_release(kind: str) -> None:
    """No difference without a name."""
    agree(CASES[kind], COUNT)

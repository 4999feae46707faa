"""A network that BGP carries beside one that the agents do."""

from __future__ import annotations

from pathlib import Path

import pytest
from two_owners import each_has_one_owner, two_owners

pytestmark = pytest.mark.kernel


def test_bgp_beside_vxlan_has_one_owner_of_each_route(tmp_path: Path) -> None:
    """BIRD programs its network's routes and the agent its own, whoever of them is killed or loses one."""
    with two_owners(tmp_path, "vxlan") as lab:
        each_has_one_owner(lab, 60.0)

"""A network that BGP carries beside one by IPIP, as Calico has them."""

from __future__ import annotations

from pathlib import Path

import pytest
from guest_lab import PATIENCE
from two_owners import each_has_one_owner, two_owners

pytestmark = [pytest.mark.guest, pytest.mark.soak, pytest.mark.timeout(900)]


def test_bgp_beside_ipip_has_one_owner_of_each_route(tmp_path: Path) -> None:
    """BIRD programs what is never encapsulated, the agent what is; whoever is killed or loses a route."""
    with two_owners(tmp_path, "ipip") as lab:
        each_has_one_owner(lab, PATIENCE)

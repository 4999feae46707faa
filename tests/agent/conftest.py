"""What several tests of running agents share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet import NETWORKS, Fleet, fleet


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Fleet]:
    """Two nodes, a and b, whose agents run, with a network of each transport (``fleet.NETWORKS``)."""
    with fleet(tmp_path, "ab", **NETWORKS) as made:
        yield made

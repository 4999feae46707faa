"""The command in an empty network namespace: the machine's own routes have no say."""

from __future__ import annotations

from pathlib import Path

import pytest
from podway_command import DOCUMENTS, Podway


@pytest.fixture
def podway(tmp_path: Path, in_namespace: int) -> Podway:
    """On an empty store."""
    return Podway(tmp_path)


@pytest.fixture
def applied(podway: Podway) -> Podway:
    """On a store that holds DOCUMENTS."""
    podway.good("apply", "-f", "-", text=DOCUMENTS)
    return podway

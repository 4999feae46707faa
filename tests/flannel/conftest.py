"""A segment with a real etcd, and nodes of Flannel's and Podway's on it, each in a namespace of its own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from flannel_lab import FlannelLab


@pytest.fixture
def flannel_lab(tmp_path: Path) -> Iterator[FlannelLab]:
    """Everything in it ends with the test."""
    made = FlannelLab(tmp_path)
    try:
        yield made
    finally:
        made.close()

"""The helpers of this directory are importable by its tests."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from bird_pair import Pair


@pytest.fixture
def pair(tmp_path: Path, in_namespace: int) -> Iterator[Pair]:
    """Two namespaces, in the first of which the test runs."""
    made = Pair(tmp_path, in_namespace)
    try:
        yield made
    finally:
        made.close()

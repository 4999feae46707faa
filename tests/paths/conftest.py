"""Segments with nodes for tests of paths."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from segments import Segments


@pytest.fixture
def make_segments(tmp_path: Path) -> Iterator[Callable[..., Segments]]:
    """Makes segments with a network of the given spec; ends all of them after the test."""
    made: list[Segments] = []

    def make(**spec: object) -> Segments:
        made.append(Segments(tmp_path, **spec))
        return made[-1]

    yield make
    for one in made:
        one.close()

"""Fixtures of the liveness tests."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from liveness_pair import Pair


@pytest.fixture
def make_pair(tmp_path: Path) -> Iterator[Callable[..., Pair]]:
    """Makes pairs with agents that run, ended after the test."""
    made: list[Pair] = []

    def make(start: bool = True, **spec: object) -> Pair:
        directory = tmp_path / str(len(made))
        directory.mkdir()
        made.append(Pair(directory, **spec))
        for node in made[-1].nodes if start else ():
            made[-1].start(node)
        return made[-1]

    yield make
    for pair in made:
        pair.close()

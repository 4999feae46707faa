"""What tests of labs, of pods' traffic and of drop-in plugins use is beside them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path += [str(Path(__file__).parents[1] / room) for room in ("lab", "traffic", "dropin")]

from dropin_engine import Here, here_is_a_node
from dropin_lab import pods


@pytest.fixture
def here(in_namespace: int, tmp_path: Path) -> Iterator[Here]:
    """A node whose engine is this process's."""
    with here_is_a_node(tmp_path) as made:
        yield made


@pytest.fixture
def pod() -> Iterator[str]:
    """The name of a container, and of its network namespace."""
    with pods("guestpod"):
        yield "guestpod"


@pytest.fixture
def other_pod() -> Iterator[str]:
    """A second one."""
    with pods("guestother"):
        yield "guestother"

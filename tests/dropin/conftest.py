"""Drop-in plugins on a real kernel: executables, agent and pods in namespaces of the test's own."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from dropin_lab import Lab, pods

_numbers = itertools.count()


@pytest.fixture
def lab(in_namespace: int, tmp_path: Path) -> Iterator[Lab]:
    """A node without an agent; ``lab.start()`` starts one."""
    made = Lab(tmp_path)
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture(params=["agent", "in-process"])
def node(request: pytest.FixtureRequest, lab: Lab) -> Lab:
    """A node with an agent, and one without."""
    if request.param == "agent":
        lab.start()
    return lab


@pytest.fixture
def pod() -> Iterator[str]:
    """The name of a container, and of its network namespace."""
    name = f"dp{os.getpid()}x{next(_numbers)}"
    with pods(name):
        yield name


@pytest.fixture
def other_pod() -> Iterator[str]:
    """A second one."""
    name = f"dp{os.getpid()}x{next(_numbers)}"
    with pods(name):
        yield name


@pytest.fixture
def third_pod() -> Iterator[str]:
    """A third one."""
    name = f"dp{os.getpid()}z{next(_numbers)}"
    with pods(name):
        yield name

"""Drop-in plugins on a real kernel: executables, agent and pods in namespaces of the test's own."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from differential import debian, release
from dropin_engine import Here, here_is_a_node
from dropin_lab import Lab, pods

from podway.cni import dropin

_numbers = itertools.count()


@pytest.fixture
def lab(in_namespace: int, tmp_path: Path) -> Iterator[Lab]:
    """A node without an agent; ``lab.start()`` starts one."""
    made = Lab(tmp_path)
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def here(in_namespace: int, tmp_path: Path) -> Iterator[Here]:
    """A node whose engine is this process's."""
    with here_is_a_node(tmp_path) as made:
        yield made


@pytest.fixture(params=["agent", "in-process"])
def node(request: pytest.FixtureRequest, lab: Lab) -> Lab:
    """A node with an agent, and one without."""
    if request.param == "agent":
        lab.start()
    return lab


@pytest.fixture(params=["agent", "in-process", "1.9.1", "Debian"])
def either(request: pytest.FixtureRequest, lab: Lab) -> Lab:
    """A node with our plugins or the reference's, whose version is ``theirs``: both stand up to one test."""
    if request.param == "agent":
        lab.start()
    elif request.param != "in-process":
        lab.theirs = request.param
        side = debian() if request.param == "Debian" else release()
        for name in dropin.NAMES:
            (lab.bin / name).unlink()
            if (there := Path(side.directory) / name).exists():
                (lab.bin / name).symlink_to(there)
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

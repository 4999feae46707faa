"""Fixtures of all tests. Kernel tests run in namespaces of their own; nothing is left behind."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from podway.kernel import namespaces


@pytest.fixture
def in_namespace() -> Iterator[int]:
    """Run the test (and its subprocesses) in a new network namespace; yields its descriptor."""
    fd = namespaces.create()
    try:
        with namespaces.entered(fd):
            yield fd
    finally:
        os.close(fd)


@pytest.fixture
def pod_namespace() -> Iterator[int]:
    """A second, empty network namespace, as a runtime makes for a pod."""
    fd = namespaces.create()
    try:
        yield fd
    finally:
        os.close(fd)

"""Fixtures of all tests. Kernel tests run in namespaces of their own; nothing is left behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from podway.kernel import namespaces

# one tree, one verdict, on slow machines too: what is drawn each day is drawn again, `make soak` draws anew
settings.register_profile(
    "daily", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("soak", deadline=None, suppress_health_check=[HealthCheck.too_slow])


def pytest_configure(config: pytest.Config) -> None:
    """Before any test's own settings are read, which build on these."""
    wanted = config.option.markexpr
    settings.load_profile("soak" if "soak" in wanted and "not soak" not in wanted else "daily")
    # a shell's background job is deaf to it, and so would be what a test starts and interrupts
    signal.signal(signal.SIGINT, signal.default_int_handler)


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

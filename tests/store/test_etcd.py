"""The etcd store keeps what every store keeps, against a real etcd."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from conformance import *  # noqa: F403

from etcd_cluster import Cluster

_numbers = itertools.count()


@pytest.fixture
def store_url(etcd: Cluster) -> str:
    return etcd.url(f"test{next(_numbers)}")


@pytest.fixture
def compact(etcd: Cluster) -> Callable[[], None]:
    return etcd.compact

"""An etcd that all tests of a run share; each test has a prefix of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from etcd_cluster import Cluster


@pytest.fixture(scope="session")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster.on_loopback(tmp_path_factory.mktemp("etcd"))
    cluster.start()
    yield cluster
    cluster.stop()

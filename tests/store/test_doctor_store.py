"""``podway doctor`` says whether the store is reached, and which member of an etcd is not."""

from __future__ import annotations

import contextlib
from pathlib import Path

from conformance import record

from etcd_cluster import Cluster, free_ports
from podway.observe.store import checks
from podway.store import open_store


def test_each_member_is_asked_by_itself(etcd: Cluster) -> None:
    (port,) = free_ports(1)
    url = etcd.url("doctor").replace("/doctor", f",127.0.0.1:{port}/doctor")
    with contextlib.closing(open_store(url, create=True)) as store:
        store.create(record("a"))
    here, gone, whole = checks(url)
    assert here.verdict == "ok" and etcd.members[0].client in here.detail and "version 3." in here.detail
    assert gone.verdict == "warning" and f"127.0.0.1:{port}: Connection refused" in gone.detail
    assert whole.verdict == "ok" and "0 networks, 1 nodes" in whole.detail


def test_a_store_that_is_not_there_says_what_to_do(etcd: Cluster, tmp_path: Path) -> None:
    for url in (etcd.url("nothing"), f"sqlite:{tmp_path}/store.db"):
        found = checks(url)[-1]
        assert found.verdict == "warning" and "apply" in found.fix, found

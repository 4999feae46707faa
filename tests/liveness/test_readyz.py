"""Ready means: every peer programmed, and asked once; what is missing is said; it latches."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable

import pytest
from liveness_pair import PATIENCE, Pair

from podway.store import Record, open_store

pytestmark = pytest.mark.kernel


def _register(pair: Pair, node: str, address: str, cidr: str) -> None:
    """A node that the cluster knows, and that nobody runs."""
    with contextlib.closing(open_store(pair.url)) as store:
        spec = json.dumps({"addresses": [address]}).encode()
        store.create(Record(kind="Node", name=node, spec=spec))
        block = {"network": "pods", "node": node, "attach": "bridge"}
        store.create(Record(kind="Block", name=cidr, spec=json.dumps(block).encode()))


def _waits(pair: Pair, words: str) -> bool:
    waited = pair.podway("a", "status", "--wait", "--timeout", "0.2")
    return waited.returncode == 1 and words in waited.stdout


def test_a_dead_peer_delays_and_is_named_and_makes_nobody_unready(make_pair: Callable[..., Pair]) -> None:
    """Until its time is over the answer is 503 and its name; then ready, and so it stays."""
    pair = make_pair(start=False)
    _register(pair, "c", "192.0.2.3/24", "10.244.3.0/24")
    pair.start("a")
    pair.start("b")
    deadline = time.monotonic() + PATIENCE
    while not _waits(pair, "not ready: peer c: no answer to probes"):
        assert time.monotonic() < deadline, pair.podway("a", "status").stdout
    assert "no answer" in pair.page("a", "/readyz")
    waited = pair.podway("a", "status", "--wait", "--timeout", "120")
    assert waited.returncode == 0, waited.stdout
    assert "ready, without an answer of c" in waited.stdout and "peer c: peer dead" in waited.stdout
    pair.kill("b")
    _register(pair, "d", "192.0.2.4/24", "10.244.4.0/24")
    assert pair.page("a", "/readyz") == "ready, without an answer of c\n"

"""What is wrong between two nodes is told by name, and taken back when it heals."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytestmark = pytest.mark.kernel
BLOCK_TUNNEL = "table bridge t { chain c { type filter hook forward priority 0; udp dport 8472 drop; }; }"


def test_the_tunnel_is_blocked(make_pair: Callable) -> None:
    """UDP 8472 dropped on the way is told from a dead peer, by status, doctor, metrics and get peers."""
    pair = make_pair()
    for node in ("a", "b"):
        pair.until_title(node, "ok")
    assert pair.podway("a", "status", "--wait").returncode == 0
    pair.nft(pair.middle, BLOCK_TUNNEL)
    found = pair.until_title("a", "UDP 8472 blocked")
    assert {path["finding"] for path in found["paths"] if path["layer"] == "underlay"} == {"ok"}
    shown = pair.podway("a", "status")
    assert shown.returncode == 0 and "peer b: UDP 8472 blocked" in shown.stdout and "ready" in shown.stdout
    assert "UDP 8472 blocked" in pair.podway("a", "doctor").stdout
    pair.run(pair.middle, "nft delete table bridge t")
    pair.until_title("a", "ok")

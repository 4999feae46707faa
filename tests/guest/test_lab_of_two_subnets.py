"""A whole lab in the guest: two subnets with a router between, by IPIP and by WireGuard."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from changing import Lab, until
from guest_lab import DRAIN, PATIENCE, RATE, SIZE, change, plain, reach_all, tunnelled
from guest_lab import lab as running
from streams import running as traffic

pytestmark = [pytest.mark.guest, pytest.mark.timeout(900)]
SIDES = {"node1": "left", "node2": "left", "node3": "right"}
ACROSS, WITHIN = {(4, "across"), (41, "across")}, {(4, "within"), (41, "within")}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with running(tmp_path_factory.mktemp("lab"), {"preset": "calico-crosssubnet"}, SIDES) as made:
        yield made


def peers(lab: Lab, node: str) -> dict[str, dict[str, Any]]:
    found = json.loads(lab.inside(node, "podway", "get", "peers", "-o", "json"))
    return {one["name"]: one for one in found}


def chosen(lab: Lab, node: str, peer: str) -> set[str]:
    """The paths of all families."""
    return {one["path"] for one in peers(lab, node)[peer]["choices"]}


def test_ipip_across_subnets_alone(lab: Lab) -> None:
    """Preset calico-crosssubnet: once neighbours are proved, pods' packets go to them as they are."""
    wanted = {("node1", "node2"): "direct", ("node2", "node1"): "direct", ("node1", "node3"): "tunnel"}
    until(
        "neighbours are sent to directly",
        lambda: all(chosen(lab, *p) == {w} for p, w in wanted.items()),
        PATIENCE,
    )
    frames = reach_all(lab)
    assert tunnelled(frames) == ACROSS and plain(frames)


def test_an_agent_is_killed_and_another_started(lab: Lab) -> None:
    """No packet is lost meanwhile."""
    with traffic(lab.pods(), RATE, SIZE, DRAIN) as seen:
        os.kill(lab.agent_of("node1"), signal.SIGKILL)
        until("it is gone", lambda: not lab.has_agent("node1"), PATIENCE)
        lab.start_agent("node1")
        lab.inside("node1", "podway", "status", "--wait", "--timeout", str(PATIENCE))
    seen.verify(5)


def test_ipip_always(lab: Lab) -> None:
    """Preset calico-ipip, changed to under traffic: within a subnet too."""
    change(lab, {"preset": "calico-ipip"})
    frames = reach_all(lab)
    assert tunnelled(frames) == ACROSS | WITHIN and not plain(frames)


def test_wireguard_everywhere(lab: Lab) -> None:
    """Preset calico-wireguard, changed to under traffic: a handshake with every peer, nothing in clear."""
    change(lab, {"preset": "calico-wireguard"})
    frames = reach_all(lab)
    assert not tunnelled(frames) and not plain(frames)
    for peer in peers(lab, "node1").values():
        assert all(path["handshake"] for path in peer["paths"] if path["layer"] == "overlay"), peer
    wide = lab.inside("node1", "podway", "get", "peers", "-o", "wide")
    assert wide.count(", handshake ") == 4, wide  # two peers, two families

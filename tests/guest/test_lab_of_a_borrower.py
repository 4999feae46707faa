"""A lab in the guest on one LAN, whose last node has only what it borrowed: by IPIP, BGP and WireGuard."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from changing import Lab, until
from guest_lab import PATIENCE, change, plain, reach_all, tunnelled
from guest_lab import lab as running
from lab_tools import podway

pytestmark = [pytest.mark.guest, pytest.mark.timeout(900)]
POOLS = [{"cidr": "10.244.0.0/29", "blockSize": 30}, {"cidr": "fd00:10:244::/125", "blockSize": 126}]


def preset(name: str) -> dict[str, Any]:
    return {"preset": name, "pools": POOLS}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Two nodes that have all blocks, and a third that comes later."""
    sides = {"node1": "left", "node2": "left"}
    with running(tmp_path_factory.mktemp("lab"), preset("calico-ipip"), sides) as made:
        until(
            "addresses are offered", lambda: {":" in one for one in offered(made)} == {True, False}, PATIENCE
        )
        podway("add-node", "--name", made.name, "node3", "--pods", "1")
        yield Lab(made.name, 3)


def documents(lab: Lab, kind: str) -> list[dict[str, Any]]:
    return json.loads(lab.inside("node1", "podway", "get", kind, "-o", "json"))  # type: ignore[no-any-return]


def offered(lab: Lab) -> list[str]:
    return [
        address for one in documents(lab, "blocks") for address in one.get("status", {}).get("offers", ())
    ]


def test_a_borrowed_address_is_reached_by_ipip(lab: Lab) -> None:
    """Every pair in both families, by tunnels alone."""
    assert {one["spec"]["node"] for one in documents(lab, "blocks")} == {"node1", "node2"}
    assert [one["spec"]["node"] for one in documents(lab, "borrows")] == ["node3"] * 2
    frames = reach_all(lab)
    assert tunnelled(frames) == {(4, "within"), (41, "within")} and not plain(frames)


def test_from_ipip_to_bgp_and_back(lab: Lab) -> None:
    """Under traffic between all pods, the borrowers' included, of which nothing is lost."""
    change(lab, preset("calico-bgp"))
    frames = reach_all(lab)
    assert plain(frames) and not tunnelled(frames)
    change(lab, preset("calico-ipip"))
    frames = reach_all(lab)
    assert tunnelled(frames) and not plain(frames)


def test_a_borrowed_address_is_reached_by_wireguard(lab: Lab) -> None:
    """Changed to under traffic: it is its borrower's key that may send from it, not its owner's."""
    change(lab, preset("calico-wireguard"))
    frames = reach_all(lab)
    assert not tunnelled(frames) and not plain(frames)

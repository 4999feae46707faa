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

from podway.lab.place import find
from podway.observe import client

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
    frames = change(lab, preset("calico-bgp"))
    assert plain(frames) and not tunnelled(frames)
    frames = change(lab, preset("calico-ipip"))
    assert tunnelled(frames) and not plain(frames)


def test_a_borrowed_address_is_reached_by_wireguard(lab: Lab) -> None:
    """Changed to under traffic: it is its borrower's key that may send from it, not its owner's."""
    frames = change(lab, preset("calico-wireguard"))
    assert frames and not tunnelled(frames) and not plain(frames)


def test_nobody_is_called_blocked_for_want_of_an_address(lab: Lab) -> None:
    """The borrower asks by node addresses alone, the others ask each other by the tunnel too."""
    for node in lab.nodes:
        socket = str(find(lab.name).node(node) / "agent.sock")
        until(
            f"all is well for {node}",
            lambda socket=socket: {one.verdict for one in client.peers(socket)} == {"ok"},  # type: ignore[misc]
            PATIENCE,
        )
        asked = {one.name for one in client.peers(socket) for path in one.paths if path.layer == "overlay"}
        assert asked == {"node1": {"node2"}, "node2": {"node1"}, "node3": set()}[node]

"""The bridge's options on real packets: IPv6 from the first packet, isolation, promiscuous mode, adoption."""

from __future__ import annotations

import contextlib
import json
import socket
from pathlib import Path
from typing import Any

import harness
import pytest

from podway.node import uninstall

pytestmark = pytest.mark.kernel


def test_ipv6_needs_no_second_to_settle(tmp_path: Path, in_namespace: int) -> None:
    """Forwarded packets make the node ask for the pod's neighbour, not from a tentative address."""
    with harness.scene(tmp_path) as scene:
        pod, endpoint = scene.pod("first")
        shown = json.loads(harness.run("ip", "-j", "-6", "address", "show", "dev", "pw-pods"))
        assert [a for a in shown[0]["addr_info"] if a.get("tentative")] == []
        with harness.server(pod, 80, family=6):
            assert harness.ask(scene.outside, _bare(endpoint.addresses[1]), 80) == harness.OUTSIDE6


def test_isolated_pods_reach_the_world_but_not_each_other(tmp_path: Path, in_namespace: int) -> None:
    with harness.scene(tmp_path, bridge={"isolated": True}) as scene:
        one, _ = scene.pod("one")
        two, other = scene.pod("two")
        with harness.server(two, 80), harness.server(two, 80, family=6), harness.server(scene.outside, 80):
            for address in other.addresses:
                assert harness.ask(one, _bare(address), 80) is None
            assert harness.ask(one, harness.OUTSIDE4, 80) == harness.NODE4
            assert harness.ask(scene.node, _bare(other.addresses[0]), 80) is not None


@pytest.mark.parametrize("promisc", [True, False])
def test_a_promiscuous_bridge_shows_a_monitor_all_frames(
    tmp_path: Path, in_namespace: int, promisc: bool
) -> None:
    with harness.scene(tmp_path, bridge={"promisc": promisc}) as scene:
        one, _ = scene.pod("one")
        two, other = scene.pod("two")
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800)) as monitor:
            monitor.bind(("pw-pods", 0x0800))
            with harness.server(two, 80):
                assert harness.ask(one, _bare(other.addresses[0]), 80)
            monitor.setblocking(False)
            destination = bytes.fromhex(other.mac.replace(":", ""))
            seen = []
            with contextlib.suppress(BlockingIOError):
                while True:
                    seen.append(monitor.recv(2048)[:6])
        assert (destination in seen) == promisc


def _bare(address: str) -> str:
    return address.partition("/")[0]


def test_an_address_that_moves_to_another_pod_is_reached_at_once(tmp_path: Path, in_namespace: int) -> None:
    """Neighbours and the node still know it by the old pod's MAC, so the new one's must be the same."""
    with harness.scene(tmp_path, cooldown=0) as scene:
        asker, _ = scene.pod("asker")
        addresses = [_bare(address) for address in scene.pod("old")[1].addresses]
        for address in addresses:
            assert harness.ping(asker, address) and harness.ping(scene.node, address)
        scene.engine.delete("old", "eth0")
        scene.engine.attachments.burial.complete()
        scene.pod("new", ips=addresses)
        for address in addresses:
            assert harness.ping(asker, address, wait=2) and harness.ping(scene.node, address, wait=2)


def _operators_bridge(*addresses: str) -> None:
    harness.run("ip", "link", "add", "ops0", "type", "bridge")
    harness.run("ip", "link", "set", "ops0", "address", "02:00:00:00:00:99", "up")
    for address in addresses:
        harness.run("ip", "address", "add", address, "dev", "ops0")


def _state() -> tuple[Any, ...]:
    """What of the operator's bridge must be as before."""
    sysctls = [f"net.ipv4.conf.ops0.{name}" for name in ("route_localnet", "send_redirects")]
    link = json.loads(harness.run("ip", "-j", "-d", "link", "show", "dev", "ops0"))[0]
    shown = json.loads(harness.run("ip", "-j", "-4", "address", "show", "dev", "ops0"))
    addresses = [a["local"] for one in shown for a in one["addr_info"]]
    flags = sorted(set(link["flags"]) - {"LOWER_UP", "NO-CARRIER"})  # of its ports, not of its settings
    return harness.run("sysctl", *sysctls), link["address"], link.get("ifalias"), flags, addresses


ADOPTED = {"name": "ops0", "adopt": True}


def test_an_adopted_bridge_serves_and_stays_the_operators(tmp_path: Path, in_namespace: int) -> None:
    _operators_bridge()
    before = _state()
    with harness.scene(tmp_path, bridge=ADOPTED) as scene:
        one, first = scene.pod("one")
        two, second = scene.pod("two")
        with harness.server(two, 80), harness.server(scene.outside, 80):
            assert harness.ask(one, _bare(second.addresses[0]), 80) == _bare(first.addresses[0])
            assert harness.ask(one, harness.OUTSIDE4, 80) == harness.NODE4
        assert scene.engine.reconciler.plan()[0] == ()
        for name in ("one", "two"):
            scene.engine.delete(name, "eth0")
        engine = scene.engine
        engine.attachments.burial.complete()
        uninstall.run(engine.kernel, engine.database, uninstall.plan(engine.kernel, engine.database))
        after = _state()
    assert after == before


def test_an_adopted_bridge_keeps_what_it_had(tmp_path: Path, in_namespace: int) -> None:
    """Its own addresses in the pool, one of them the gateway and one where the first pod's would be; that it
    was down and not promiscuous. An uninstall leaves no line in the ledger."""
    first = "10.244.202.0/24"  # node a's first block
    _operators_bridge("10.244.202.1/24", "10.244.202.2/16")
    harness.run("ip", "link", "set", "ops0", "down")
    before = _state()
    with harness.scene(tmp_path, bridge=ADOPTED | {"promisc": True}) as scene:
        engine = scene.engine
        one, endpoint = scene.pod("one")
        assert engine.cluster.snapshot.blocks[first].spec.node == "a"
        assert endpoint.addresses[0] == "10.244.202.3/24"
        assert harness.ping(one, "10.244.202.1") and harness.ping(one, "10.244.202.2")
        with pytest.raises(Exception, match=r"10\.244\.202\.2 is held by bridge ops0"):
            scene.pod("two", ips=("10.244.202.2",))
        assert "PROMISC" in _state()[3]
        engine.delete("one", "eth0")
        engine.attachments.burial.complete()
        uninstall.run(engine.kernel, engine.database, uninstall.plan(engine.kernel, engine.database))
        assert engine.database.ledger() == {}
        assert _state() == before


def test_a_bridge_with_an_address_of_somebody_elses_is_not_adopted(tmp_path: Path, in_namespace: int) -> None:
    _operators_bridge("10.9.0.1/24")
    before = _state()
    with harness.scene(tmp_path, bridge=ADOPTED) as scene:
        (note,) = scene.engine.planner.notes
        assert "10.9.0.1/24" in note.reason and "ops0" in note.reason
        with pytest.raises(Exception, match=r"10\.9\.0\.1/24"):
            scene.engine.status("pods")
        with pytest.raises(Exception, match=r"10\.9\.0\.1/24"):
            scene.pod("one")
        assert "podway" not in harness.run("ip", "link") and _state() == before

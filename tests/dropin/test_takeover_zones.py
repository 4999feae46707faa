"""Addresses that the reference plugin ``firewall`` bound to firewalld's zones leave them with their pods."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bench.built import built
from dropin_lab import CniFailed, Lab
from walls import Firewalld

from bench import reference

pytestmark = pytest.mark.kernel


class Scene:
    """A node with firewalld, and pods that the reference plugins made."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        directory.mkdir()
        self.lab, self.firewalld = lab, Firewalld(directory)
        self.env = {"DBUS_SYSTEM_BUS_ADDRESS": self.firewalld.bus}

    def chain(self, ipam: str = "host-local", zone: str = "", address: str = "") -> list[dict[str, Any]]:
        """bridge and firewall."""
        common = {"cniVersion": "1.0.0", "name": "zoned"}
        own: dict[str, Any] = {"type": ipam}
        if ipam == "static":
            own["addresses"] = [{"address": f"{address}/24"}]
        else:
            own["dataDir"] = str(self.lab.data)
            own["ranges"] = [[{"subnet": "10.41.0.0/24"}], [{"subnet": "fd00:41::/64"}]]
        bridge = {"type": "bridge", "bridge": "cni41", "ipam": own}
        firewall = {"type": "firewall"} | ({"firewalldZone": zone} if zone else {})
        return [common | bridge, common | firewall]

    def attach(self, chain: list[dict[str, Any]], pod: str) -> dict[str, Any]:
        """By the reference plugins."""
        directory = built(reference.NAME, reference.MODULE, reference.PROOF)
        own, self.lab.path = self.lab.path, str(directory)
        try:
            made = self.lab.call("ADD", chain[0], pod, **self.env)
            return self.lab.call("ADD", chain[1], pod, before=made, **self.env)
        finally:
            self.lab.path = own

    def detach(self, chain: list[dict[str, Any]], pod: str, before: Any = None) -> None:
        """By ours, as a runtime does it."""
        for conf in reversed(chain):
            self.lab.call("DEL", conf, pod, before=before, **self.env)

    def collect(self, chain: list[dict[str, Any]], *valid: str) -> None:
        """By ours."""
        kept = [{"containerID": pod, "ifname": "eth0"} for pod in valid]
        for conf in chain:
            asked = {**conf, "cniVersion": "1.1.0", "cni.dev/valid-attachments": kept}
            self.lab.call("GC", asked, **self.env)

    def zone(self, name: str = "trusted", *options: str) -> set[str]:
        """Its sources, at run time or with ``--permanent``."""
        return set(self.firewalld.said(f"--zone={name}", "--list-sources", *options).split())

    def journal(self, kind: str) -> list[str]:
        """What the node's says."""
        entries = self.lab.journal()
        return [f"{one.key}: {one.found}" for one in entries if one.kind == kind]


@pytest.fixture
def scene(lab: Lab, tmp_path: Path) -> Scene:
    return Scene(lab, tmp_path / "fw")


@contextlib.contextmanager
def run_by(scene: Scene, how: str) -> Iterator[None]:
    """firewalld, and an agent or none."""
    with scene.firewalld.running():
        if how == "agent":
            scene.lab.start(**scene.env)
        yield


def sources(result: dict[str, Any]) -> set[str]:
    """As the reference plugin binds a pod's addresses."""
    bare = [str(one["address"]).partition("/")[0] for one in result["ips"]]
    return {f"{one}/{128 if ':' in one else 32}" for one in bare}


def files(directory: Path) -> dict[str, str]:
    """firewalld's permanent configuration."""
    return {str(one): one.read_text() for one in directory.rglob("*") if one.is_file()}


@pytest.mark.parametrize(("how", "zone"), [("agent", ""), ("in-process", "internal")])
def test_del_and_gc_take_pods_out_of_their_zone(
    scene: Scene, how: str, zone: str, pod: str, other_pod: str, third_pod: str
) -> None:
    """With prevResult and without; the others' sources and what is permanent stay."""
    chain, own, zone = scene.chain(zone=zone), "10.41.0.99/32", zone or "trusted"
    with run_by(scene, how):
        results = {one: scene.attach(chain, one) for one in (pod, other_pod, third_pod)}
        bound = set().union(*map(sources, results.values()))
        assert scene.firewalld.ask(f"--zone={zone}", f"--add-source={own}")
        before = files(scene.firewalld.configuration)
        assert len(bound) == 6 and scene.zone(zone) == bound | {own}
        scene.detach(chain, pod, results[pod])
        assert scene.zone(zone) == bound - sources(results[pod]) | {own}
        for _ in range(2):
            scene.detach(chain, other_pod)
        assert scene.zone(zone) == sources(results[third_pod]) | {own}
        scene.collect(chain, third_pod)
        assert scene.zone(zone) == sources(results[third_pod]) | {own}
        scene.collect(chain)
        assert scene.zone(zone) == {own}
        assert files(scene.firewalld.configuration) == before
    noted = scene.journal("taken over")
    assert all(any(f"{one} of firewalld's zone {zone}" in said for said in noted) for one in bound)
    assert not any(own in said for said in noted)


def test_addresses_of_any_ipam_go_by_prev_result(scene: Scene, pod: str) -> None:
    chain = scene.chain("static", address="10.41.7.2")
    with run_by(scene, "in-process"):
        result = scene.attach(chain, pod)
        assert scene.zone() == {"10.41.7.2/32"}
        scene.detach(chain, pod, result)
        assert scene.zone() == set()


def test_what_an_administrator_made_permanent_stays(scene: Scene, pod: str) -> None:
    """Also where it is a pod's address."""
    chain = scene.chain("static", address="10.41.7.2")
    with run_by(scene, "in-process"):
        assert scene.firewalld.ask("--permanent", "--zone=trusted", "--add-source=10.41.7.2/32")
        assert scene.firewalld.ask("--reload")
        before = files(scene.firewalld.configuration)
        scene.detach(chain, pod, scene.attach(chain, pod))
        assert scene.zone() == scene.zone("trusted", "--permanent") == {"10.41.7.2/32"}
        assert files(scene.firewalld.configuration) == before


def test_firewalld_that_was_reloaded_started_anew_or_stopped(scene: Scene, pod: str, other_pod: str) -> None:
    """It has forgotten the pods' addresses; they go as others do."""
    chain = scene.chain()
    with run_by(scene, "agent"):
        result = scene.attach(chain, pod)
        assert scene.firewalld.ask("--reload") and scene.zone() == set()
        scene.detach(chain, pod, result)
        result, other = scene.attach(chain, pod), scene.attach(chain, other_pod)
    scene.detach(chain, pod, result)  # the bus is gone as well
    with scene.firewalld.running():
        assert scene.zone() == set()
        scene.detach(chain, other_pod, other)
        scene.firewalld.end()
        scene.detach(chain, other_pod, other)  # a bus, and nobody on it
        assert not scene.journal("left")
        assert not any("zone" in said for said in scene.journal("taken over"))
    assert not [one for one in (scene.lab.data / "zoned").iterdir() if one.name[0].isdigit()]


def test_one_that_hangs_keeps_no_pod(scene: Scene, pod: str) -> None:
    """And is told of."""
    chain = scene.chain()
    with run_by(scene, "agent"):
        result = scene.attach(chain, pod)
        scene.firewalld.send(signal.SIGSTOP)
        try:
            scene.lab.call("DEL", chain[1], pod, before=result, **scene.env)
        finally:
            scene.firewalld.send(signal.SIGCONT)
        assert any("10.41.0.2" in one and "firewalld" in one for one in scene.journal("left"))
        scene.detach(chain, pod)  # its address is still in bridge's file
        assert scene.zone() == set()


@pytest.mark.parametrize("point", ["takeover.noted", "takeover.zone"])
def test_killed_while_addresses_leave_their_zone(scene: Scene, pod: str, point: str) -> None:
    """Noted before it is touched; the next DEL does the rest."""
    chain = scene.chain()
    with run_by(scene, "in-process"):
        result = scene.attach(chain, pod)
        scene.lab.start(PODWAY_FAULT=point, **scene.env)
        with pytest.raises(CniFailed):
            scene.lab.call("DEL", chain[0], pod, **scene.env)
        assert scene.lab.process is not None and scene.lab.process.wait(30) == -signal.SIGKILL
        scene.lab.process = None
        assert any("10.41.0.2/32 of firewalld's zone trusted" in one for one in scene.journal("taken over"))
        assert scene.zone() == (sources(result) if point == "takeover.noted" else set())
        scene.lab.start(**scene.env)
        scene.detach(chain, pod, result)
        assert scene.zone() == set()

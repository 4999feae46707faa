"""A pod that sends from an address or MAC that is not its own reaches nobody; switched off, it does."""

from __future__ import annotations

import subprocess
from pathlib import Path

import harness
import pytest

from podway.kernel import namespaces

pytestmark = pytest.mark.kernel


def _ping(namespace: int, *arguments: str) -> bool:
    with namespaces.entered(namespace):
        command = ["ping", "-c2", "-i0.2", "-W1", *arguments]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _drops(scene: harness.Scene, reason: str) -> int:
    """Packets that the guard's rule of this reason has dropped."""
    for line in harness.run("nft", "list", "chain", "bridge", "podway", "guard").splitlines():
        if reason in line:
            return int(line.split("packets ")[1].split()[0])
    raise AssertionError(reason)


@pytest.mark.parametrize("family", [4, 6])
def test_a_foreign_source_address(tmp_path: Path, in_namespace: int, family: int) -> None:
    foreign = "10.244.202.99" if family == 4 else "fd00:10:244:bdca::99"
    with harness.scene(tmp_path) as scene:
        pod, own = scene.pod("evil")
        gateway = own.gateways[0 if family == 4 else 1]
        assert _ping(pod, gateway)
        with namespaces.entered(pod):
            length, more = ("/24", []) if family == 4 else ("/64", ["nodad"])
            harness.run("ip", "address", "add", foreign + length, "dev", "eth0", *more)
        assert not _ping(pod, "-I", foreign, gateway)
        reason = "ARP sender address" if family == 4 else "IPv6 source"
        mine = own.addresses[0 if family == 4 else 1].partition("/")[0]
        assert _ping(pod, "-I", mine, gateway)
        assert _drops(scene, reason) + _drops(scene, f"IPv{family} source") > 0


def test_a_foreign_mac(tmp_path: Path, in_namespace: int) -> None:
    with harness.scene(tmp_path) as scene:
        pod, own = scene.pod("evil")
        with namespaces.entered(pod):
            harness.run("ip", "link", "set", "eth0", "address", "02:00:00:00:00:66")
        assert not _ping(pod, own.gateways[0])
        assert _drops(scene, "source MAC") > 0


def test_an_advertisement_for_somebody_elses_address(tmp_path: Path, in_namespace: int) -> None:
    """The pod answers for its neighbour's address: with the neighbour away, nobody may be reached there."""
    with harness.scene(tmp_path) as scene:
        evil, own = scene.pod("evil")
        _, victim = scene.pod("victim")
        address = victim.addresses[1].partition("/")[0]
        with namespaces.entered(evil):
            harness.run("sysctl", "-qw", "net.ipv6.conf.all.proxy_ndp=1", "net.ipv6.conf.all.forwarding=1")
            harness.run("ip", "-6", "neighbour", "add", "proxy", f"{address}1", "dev", "eth0")
        subprocess.run(["ping", "-c1", "-W1", f"{address}1"], capture_output=True, check=False)
        shown = harness.run("ip", "-6", "neighbour", "show", f"{address}1")
        assert own.mac not in shown


def test_switched_off(tmp_path: Path, in_namespace: int) -> None:
    with harness.scene(tmp_path, spoofProtection=False) as scene:
        pod, own = scene.pod("free")
        with namespaces.entered(pod):
            harness.run("ip", "address", "add", "10.244.202.99/24", "dev", "eth0")
        assert _ping(pod, "-I", "10.244.202.99", own.gateways[0])

"""The README's switch of containerd and podman users to Podway, and back, by its own commands."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import reach
from containerd import runtime, wait_for
from machine import Machine, machine
from networks import CHAIN, REFERENCE_PLUGINS, install_reference
from podman import Podman
from pods import Pods
from reach import NODE, OUTSIDE

from readme import ROOT, blocks

pytestmark = [pytest.mark.kernel, pytest.mark.runtime]

SWITCH = "In place of the plugins that are there"


class User:
    """Sits in a checkout on a machine, and types."""

    def __init__(self, place: Machine) -> None:
        self.machine = place
        self._typed = 0
        self.checkout = place.directory / "checkout"
        self.checkout.mkdir()
        for name in os.listdir(ROOT):
            (self.checkout / name).symlink_to(ROOT / name)
        for own in ("/var/lib/podway", "/var/lib/cni"):
            kept = place.directory / own.replace("/", "-")
            kept.mkdir()
            place.cover(kept, own)

    def types(self, block: str, check: bool = True) -> str:
        """What it prints. Raises AssertionError when one of the commands fails, unless told not to."""
        self._typed += 1  # the agent goes on writing into its own
        told = self.machine.directory / f"told-{self._typed}"
        line = f"exec >{told} 2>&1 </dev/null; cd {self.checkout}\n{block}\n"
        try:
            self.machine.run("bash", "-ec", line, timeout=300)
        except AssertionError:
            assert not check, told.read_text()
        return told.read_text()

    def podway(self, *words: str, check: bool = True) -> str:
        """What the command line prints."""
        return self.types(f".venv/bin/podway {' '.join(words)}", check)

    def end_agent(self) -> None:
        """As Ctrl-C does."""
        self.machine.run("pkill", "-INT", "-f", "bin/podway agent")
        gone = ("pgrep", "-f", "bin/podway agent")
        wait_for("the agent's end", lambda: not self.machine.run(*gone, check=False))


def files(directory: Path) -> dict[str, bytes]:
    """All that is in a directory."""
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.fixture
def podman() -> Iterator[Podman]:
    """With Debian's plugins in /usr/lib/cni, and a network that it made."""
    with machine() as made:
        made.uplink()
        found = Podman(made)
        shutil.copytree(REFERENCE_PLUGINS, found.bin_dir, dirs_exist_ok=True)
        made.cover(found.bin_dir, "/usr/lib/cni")
        found.import_images()
        found("network", "create", "one")
        yield found
        found("rm", "-f", "-a", "-t", "0")


def test_a_podman_user_switches_and_goes_back(podman: Podman) -> None:
    """Containers from before and after serve all the while; each command does what the page says."""
    user, place = User(podman.machine), podman.machine
    before = files(podman.bin_dir)
    _, there, back = blocks(SWITCH)

    def serve(*ports: int) -> None:
        for port in ports:
            wait_for(
                f"port {port}", lambda port=port: reach.heard(lambda: reach.from_machine(place, NODE, port))
            )  # type: ignore[misc]
            assert reach.from_outside(place, NODE, port) == OUTSIDE

    podman.run("old", "--network", "one", "-p", "8080:80")
    serve(8080)
    user.types(there)
    serve(8080)
    user.podway("status", "--wait")
    podman.run("new", "--network", "one", "-p", "8081:80")
    serve(8080, 8081)
    assert "1 pod interfaces by the reference plugins' names" in user.podway("status")
    assert user.podway("plan") == "nothing to change\n"
    podman("restart", "-t", "0", "old")
    serve(8080, 8081)

    assert "executables in /usr/lib/cni" in user.podway("doctor")
    shutil.copy(REFERENCE_PLUGINS / "bridge", podman.bin_dir)  # as an upgrade of its package does
    assert "bridge in /usr/lib/cni is not what was installed" in user.podway("doctor")
    user.types(there.splitlines()[1])
    assert "is not what was installed" not in user.podway("doctor")

    refused = user.podway("cni", "remove", "--bin-dir", "/usr/lib/cni", check=False)
    assert "2 containers came by it" in refused and "podman stop" in refused
    serve(8080, 8081)
    user.types(back)
    assert files(podman.bin_dir) == before
    serve(8080, 8081)
    user.end_agent()
    assert "left: " not in user.podway("uninstall").replace("left: node vm", "")
    serve(8080, 8081)
    assert "podway" not in place.run("nft", "list", "tables") + place.run("ip", "-d", "link")


@pytest.fixture
def pods() -> Iterator[Pods]:
    """containerd, whose configuration is where a user's is."""
    with runtime() as daemon:
        etc = daemon.directory / "etc"
        etc.mkdir()
        shutil.copy(daemon.directory / "config.toml", etc)
        daemon.machine.cover(etc, "/etc/containerd")
        daemon.machine.cover(daemon.conf_dir, "/etc/cni/net.d")
        yield Pods(daemon)


def test_a_containerd_user_switches_and_goes_back(pods: Pods) -> None:
    """The executables are put where containerd's configuration says; uninstall tells of those left there."""
    bin_dir, user = pods.daemon.bin_dir, User(pods.machine)
    install_reference(pods.daemon, CHAIN)
    before = files(bin_dir)
    old, _ = pods.start((8080, 80, "tcp"))
    user.types(blocks(SWITCH)[0])
    user.podway("status", "--wait")
    new, _ = pods.start((8081, 80, "tcp"))
    for port in (8080, 8081):
        assert pods.from_outside(NODE, port) == OUTSIDE
    pods.end(old)
    assert pods.from_outside(NODE, 8081) == OUTSIDE
    refused = user.podway("cni", "remove", check=False)
    assert "one container came by it" in refused and new[:12] in refused
    pods.end(new)
    user.end_agent()
    assert f"podway cni remove --bin-dir {bin_dir}" in user.podway("uninstall")
    user.podway("cni", "remove")
    assert files(bin_dir) == before
    back, _ = pods.start((8080, 80, "tcp"))
    assert pods.from_outside(NODE, 8080) == OUTSIDE
    pods.cri.stop_pod(back)
    pods.cri.remove_pod(back)


def test_one_host_with_containerd(pods: Pods) -> None:
    """A machine that has no plugin and no network of CNI yet gets one."""
    user = User(pods.machine)
    user.types(blocks("On one host, with containerd")[0])
    pods.daemon.wait_network()
    user.podway("status", "--wait")
    pod, _ = pods.start((8080, 80, "tcp"))
    assert [one.split(":")[0].split(".")[0] for one in pods.cri.addresses(pod)] == ["10", "fd00"]
    assert pods.from_outside(NODE, 8080) == OUTSIDE
    assert "one container came by it" in user.podway("cni", "remove", check=False)
    pods.end(pod)
    assert "removed /etc/cni/net.d/10-podway-pods.conflist" in user.podway("cni", "remove")
    assert files(pods.daemon.bin_dir) == {}
    user.end_agent()
    user.podway("uninstall")

"""``spec.firewall: manage``: pods pass real firewalls that drop what is forwarded; by default they don't."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import walls
from dropin_lab import COMPILED, Lab, pods, wait_for
from talk import Talk

from podway.agent.agent import HEARTBEAT
from podway.store import NotFound, Record, open_store

pytestmark = pytest.mark.kernel

POOLS = ["10.244.0.0/16", "fd00:10:244::/48"]
CONF = {"cniVersion": "1.0.0", "name": "pods", "type": "podway-cni", "network": "pods"}
WORLD = "192.0.2.2"


def _network(**more: object) -> bytes:
    pools = [{"cidr": cidr} for cidr in POOLS]
    return json.dumps({"attach": "routed", "transport": "none", "pools": pools, **more}).encode()


class Scene:
    """Two pods of a node, and a host in the world outside."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.a, self.b, self.world = (f"pf{os.getpid()}{name}" for name in "abw")
        self.addresses: list[str] = []

    def declare(self, **more: object) -> None:
        """The Network, made or changed."""
        store = open_store(self.lab.store, create=True)
        try:
            known = store.get("Network", "pods")
            store.update_spec(msgspec.structs.replace(known, spec=_network(**more)))
        except NotFound:
            store.create(Record(kind="Network", name="pods", spec=_network(**more)))
        store.close()

    def attach(self) -> None:
        """Both pods."""
        conf = CONF | {"socket": self.lab.socket}
        self.lab.call("ADD", conf, self.a)
        answer = self.lab.call("ADD", conf, self.b)
        self.addresses = [one["address"].partition("/")[0] for one in answer["ips"]]

    def chain(self, pod: str) -> list[dict[str, Any]]:
        """bridge and firewall under the reference plugins' names, each pod on a bridge of its own."""
        number = 31 if pod == self.a else 32
        ranges = [[{"subnet": f"10.{number}.0.0/24"}], [{"subnet": f"fd00:{number}::/64"}]]
        ipam = {"type": "host-local", "dataDir": str(self.lab.data), "ranges": ranges}
        common = {"cniVersion": "1.0.0", "name": f"net{number}"}
        bridge = {"type": "bridge", "bridge": f"cni{number}", "isDefaultGateway": True, "ipMasq": True}
        return [common | bridge | {"ipam": ipam}, common | {"type": "firewall"}]

    def attach_drop_in(self) -> None:
        """Both pods, by the drop-in plugins; without ``firewall`` they reach nothing yet."""
        bridges = {pod: self.lab.call("ADD", self.chain(pod)[0], pod) for pod in (self.a, self.b)}
        self.addresses = [one["address"].partition("/")[0] for one in bridges[self.b]["ips"]]
        assert self.is_shut()
        for pod, answer in bridges.items():
            self.lab.call("ADD", self.chain(pod)[1], pod, before=answer)

    def detach_drop_in(self) -> None:
        """Both, as a runtime does whose namespaces went."""
        for pod in (self.a, self.b):
            for conf in reversed(self.chain(pod)):
                self.lab.call("DEL", conf, pod, namespace="")

    def passes(self) -> bool:
        """Whether a's packets reach b in both families, and the world."""
        return all(self._heard())

    def is_shut(self) -> bool:
        """Whether none does."""
        return not any(self._heard())

    def _heard(self) -> Iterator[bool]:
        for address in self.addresses:
            yield walls.hears(self.a, self.b, address)
        yield walls.hears(self.a, self.world, WORLD)


@pytest.fixture
def scene(lab: Lab) -> Iterator[Scene]:
    made = Scene(lab)
    shutil.copy(COMPILED, lab.bin / "podway-cni")
    with pods(made.a, made.b, made.world):
        walls.run("ip", "link", "set", "lo", "up")
        walls.run("ip", "link", "add", "up0", "type", "veth", "peer", "eth0", "netns", made.world)
        walls.run("ip", "address", "add", "192.0.2.1/24", "dev", "up0")
        walls.run("ip", "link", "set", "up0", "up")
        for words in (["address", "add", f"{WORLD}/24", "dev", "eth0"], ["link", "set", "eth0", "up"]):
            walls.run("ip", "-n", made.world, *words)
        yield made


def _iptables(*variants: str) -> None:
    for variant in variants:
        walls.run(variant, "-w", "-P", "FORWARD", "DROP")


def _started(scene: Scene) -> None:
    scene.declare(firewall="manage")
    scene.lab.start()
    scene.attach()


def test_by_default_nothing_foreign_is_touched(scene: Scene) -> None:
    _iptables("iptables-nft", "ip6tables-nft")
    scene.declare()
    scene.lab.start()
    scene.attach()
    assert scene.is_shut() and not walls.passes()
    scene.declare(firewall="manage")
    wait_for(lambda: len(walls.passes()) == 4, "passes")
    assert scene.passes()
    scene.declare()
    wait_for(lambda: not walls.passes(), "no passes")
    assert scene.is_shut()


def test_a_policy_of_drop_as_docker_sets_it(scene: Scene) -> None:
    _started(scene)
    assert scene.passes()
    _iptables("iptables-nft", "ip6tables-nft")
    wait_for(scene.passes, "a way through")
    shown = walls.run("iptables-nft", "-S", "FORWARD")
    assert '-A FORWARD -s 10.244.0.0/16 -m comment --comment "podway:saddr:10.244.0.0/16" -j ACCEPT' in shown
    walls.run("iptables-nft", "-w", "-F", "FORWARD")
    wait_for(scene.passes, "a way through, after a flush")
    wait_for(lambda: len(walls.passes()) == 4, "all passes")


def test_what_stands_survives_a_kill_and_goes_with_an_uninstall(scene: Scene) -> None:
    _iptables("iptables-nft", "ip6tables-nft")
    walls.run("iptables-nft", "-w", "-A", "FORWARD", "-s", "198.51.100.0/24", "-j", "ACCEPT")
    before = walls.run("iptables-nft", "-S", "FORWARD")
    _started(scene)
    wait_for(scene.passes, "a way through")
    scene.lab.stop(signal.SIGKILL)
    assert scene.passes()
    walls.run("iptables-nft", "-w", "-D", "FORWARD", "1")
    scene.lab.start()
    wait_for(lambda: len(walls.passes()) == 4, "all passes")
    assert scene.passes()
    scene.lab.stop(signal.SIGKILL)
    scene.lab.podway("uninstall")
    assert not walls.passes() and walls.run("iptables-nft", "-S", "FORWARD") == before


def test_iptables_legacy_beside_nft(scene: Scene) -> None:
    both = ("iptables-legacy", "ip6tables-legacy")
    _iptables(*both, "iptables-nft", "ip6tables-nft")
    walls.run("iptables-legacy", "-w", "-A", "FORWARD", "-j", "REJECT")
    before = [walls.run(one, "-S", "FORWARD") for one in both]
    assert "REJECT" in scene.lab.podway("doctor")
    _started(scene)
    wait_for(scene.passes, "a way through")
    walls.run("iptables-legacy", "-w", "-D", "FORWARD", "1")
    wait_for(lambda: walls.run("iptables-legacy", "-S", "FORWARD").count("podway:") == 2, "both passes again")
    scene.lab.stop()
    scene.lab.podway("uninstall")
    assert [walls.run(one, "-S", "FORWARD") for one in both] == before


def _talked_over_reloads(scene: Scene, firewalld: walls.Firewalld) -> dict[str, Talk]:
    """Conversations over three reloads: of the pods one that runs and new ones, and new ones of the node's
    own, which no rule of Podway's is about."""
    own, pods = ("", scene.world, WORLD), (scene.a, scene.b, scene.addresses[0])
    with (
        Talk(*pods, fresh=False) as runs,
        Talk(*pods, fresh=True) as news,
        Talk(*own, fresh=True) as nodes,
    ):
        for _ in range(3):
            heard = runs.answered, news.answered
            assert firewalld.ask("--reload")
            wait_for(lambda before=heard: runs.answered > before[0] and news.answered > before[1], "more")
        heard = runs.answered, news.answered
        wait_for(lambda: runs.answered > heard[0] + 9 and news.answered > heard[1] + 9, "the last ones")
    return {"running": runs, "new": news, "the node's own new": nodes}


def _told(talks: dict[str, Talk]) -> str:
    figures = ", ".join(
        f"{what} {talk.gap:.0f} ms ({talk.lost} of {talk.lost + talk.answered} lost)"
        for what, talk in talks.items()
    )
    return f"\nlongest silence over three reloads of firewalld: {figures}"


@pytest.mark.parametrize("how", ["manage", "drop-in"])
def test_firewalld_and_its_reload(
    scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    """A conversation that runs isn't cut; new ones wait no longer than firewalld drops all, mostly less."""
    (tmp_path / "fw").mkdir()
    firewalld = walls.Firewalld(tmp_path / "fw")
    if how == "manage":
        _started(scene)
    else:
        scene.lab.start()
    with firewalld.running():
        if how == "drop-in":
            scene.attach_drop_in()
        wait_for(scene.passes, "a way through firewalld")
        wait_for(lambda: len(walls.passes()) >= 4, "all passes")
        talks = _talked_over_reloads(scene, firewalld)
        with capsys.disabled():
            print(_told(talks))
        assert talks["running"].lost <= 10
        assert talks["new"].gap < 1000 * HEARTBEAT  # told by the kernel, and not found at the next look
        wait_for(scene.passes, "a way through after the reload")
        assert "pods pass" in scene.lab.podway("doctor")
        scene.lab.stop()
        scene.lab.podway("uninstall")
        assert not walls.passes()


def test_ufw_and_its_reload(scene: Scene, tmp_path: Path) -> None:
    _started(scene)
    ufw = walls.Ufw(tmp_path / "ufw")
    ufw.ask("--force", "enable")
    assert "ufw-before-forward" in walls.run("iptables-nft", "-S", "FORWARD")
    wait_for(scene.passes, "a way through ufw")
    ufw.ask("reload")
    wait_for(scene.passes, "a way through after the reload")
    wait_for(lambda: len(walls.passes()) == 4, "all passes")


@contextlib.contextmanager
def _wall(name: str, directory: Path) -> Iterator[Callable[[], object]]:
    """One that drops what is forwarded; what it gives takes all foreign rules away, as a reload does."""
    if name == "firewalld":
        directory.mkdir()
        firewalld = walls.Firewalld(directory)
        with firewalld.running():
            yield lambda: firewalld.ask("--reload")
    elif name == "ufw":
        ufw = walls.Ufw(directory)
        ufw.ask("--force", "enable")
        yield lambda: ufw.ask("reload")
    else:
        both = (f"iptables-{name}", f"ip6tables-{name}")
        _iptables(*both)
        yield lambda: [walls.run(one, "-w", "-F", "FORWARD") for one in both]


#: what doctor says of each that drops
SHUT = {
    "nft": "nftables ip filter FORWARD drops it: its policy is drop",
    "legacy": "iptables-legacy ip filter FORWARD drops it: its policy is DROP",
    "ufw": "nftables ip filter FORWARD drops it: its policy is drop",
    "firewalld": "nftables inet firewalld filter_FORWARD drops it: the reject of rule handle",
}


@pytest.mark.parametrize("wall", SHUT)
def test_the_drop_in_plugin_firewall_passes_each(scene: Scene, tmp_path: Path, wall: str) -> None:
    """To a pod of another bridge in both families, and out, again after a reload; DEL leaves the wall whole.

    nft's and legacy's policy is what Docker sets."""
    scene.lab.start()
    with _wall(wall, tmp_path / "wall") as reload:
        scene.attach_drop_in()
        wait_for(scene.passes, "a way through")
        assert "pods pass" in scene.lab.podway("doctor")
        reload()
        wait_for(scene.passes, "a way through after the reload")
        scene.detach_drop_in()
        wait_for(lambda: not walls.passes(), "no passes")
        assert "podway:" not in walls.run("iptables-legacy", "-S") + walls.run("ip6tables-legacy", "-S")
        assert SHUT[wall] in " ".join(scene.lab.podway("doctor").split())


def test_what_goes_to_the_node_itself_is_firewallds_matter(scene: Scene, tmp_path: Path) -> None:
    """An administrator binds the subnet to a zone for it; the drop-in plugin puts nothing there."""
    scene.lab.start()
    (tmp_path / "fw").mkdir()
    firewalld = walls.Firewalld(tmp_path / "fw")
    with firewalld.running():
        scene.attach_drop_in()
        assert firewalld.said("--zone=trusted", "--list-sources").split() == []
        assert not walls.hears(scene.a, "", "10.31.0.1")
        assert firewalld.ask("--zone=trusted", "--add-source=10.31.0.0/24")
        assert walls.hears(scene.a, "", "10.31.0.1")
        scene.detach_drop_in()


def test_doctor_names_what_drops(lab: Lab) -> None:
    """Chain, and rule by handle and comment, or the policy; with what to do."""
    _iptables("ip6tables-nft")
    walls.run("nft", "add table inet site")
    walls.run("nft", "add chain inet site transit { type filter hook forward priority 0; }")
    walls.run("nft", "add chain inet site tail")
    walls.run("nft", "add rule inet site transit jump tail")
    walls.run("nft", 'add rule inet site tail counter log reject comment "no transit"')
    shown = " ".join(lab.podway("doctor").split())
    assert "ip6 filter FORWARD" in shown and "its policy is drop" in shown
    assert "inet site transit" in shown and '"no transit" in its chain tail' in shown
    assert "firewall: manage" in shown

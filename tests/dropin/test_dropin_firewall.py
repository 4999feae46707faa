"""``firewall`` after ``bridge``: pods pass a host's drop policy; policies between bridges; bad input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import walls
from dropin_lab import CniFailed, Lab, wait_for

from podway.observe import client

pytestmark = pytest.mark.kernel

Result = dict[str, Any]


def _attach(node: Lab, pod: str, number: int, **more: Any) -> tuple[dict[str, Any], Result, str]:
    """The pod on a bridge of its network's, then the firewall: its configuration, result and address."""
    ipam = {"type": "host-local", "dataDir": str(node.data), "subnet": f"10.{number}.0.0/24"}
    ipam["routes"] = [{"dst": "0.0.0.0/0"}]
    base = {"cniVersion": "1.0.0", "name": f"n{number}"}
    bridge = base | {"type": "bridge", "bridge": f"fw{number}", "isGateway": True, "ipam": ipam}
    conf = base | {"type": "firewall", **more}
    before = node.call("ADD", bridge, pod)
    assert node.call("ADD", conf, pod, before=before) == before
    return conf, before, before["ips"][0]["address"].partition("/")[0]


def test_pods_pass_a_drop_policy_and_nothing_is_left(node: Lab, pod: str, other_pod: str) -> None:
    walls.run("iptables-nft", "-w", "-P", "FORWARD", "DROP")
    walls.run("nft", "add table inet site")
    walls.run("nft", "add chain inet site transit { type filter hook forward priority 0; policy drop; }")
    first, before, _ = _attach(node, pod, 31)
    second, _, address = _attach(node, other_pod, 32, backend="iptables", ingressPolicy="open")
    assert walls.reaches(pod, address)
    shown = walls.run("iptables-nft", "-S", "FORWARD")
    assert "-d 10.31.0.2/32" in shown and "ESTABLISHED" in shown and "-s 10.31.0.2/32" in shown
    node.call("CHECK", first, pod, before=before)
    walls.run("iptables-nft", "-w", "-F", "FORWARD")
    if node.process is None:  # whoever calls next repairs it
        node.call("CHECK", first, pod, before=before)
    wait_for(lambda: walls.run("iptables-nft", "-S", "FORWARD").count("podway:") == 4, "the passes again")
    assert walls.reaches(pod, address)
    if node.process is not None:
        assert client.status(str(node.directory / "agent.sock")).drop_in == 2
    for conf, name in ((first, pod), (second, other_pod)):
        node.call("DEL", conf, name, namespace="")
        node.call("DEL", conf, name, namespace="")
    assert walls.run("iptables-nft", "-S", "FORWARD") == "-P FORWARD DROP\n" and not walls.passes()


def _forward(command: str = "iptables-nft") -> list[str]:
    return [line for line in walls.run(command, "-S", "FORWARD").splitlines() if "podway:" in line]


@pytest.mark.parametrize("command", ["iptables-nft", "iptables-legacy"])
def test_an_administrators_chain_is_asked_before_a_pod_passes(
    node: Lab, pod: str, other_pod: str, command: str
) -> None:
    """Its rules hold whether anything else drops or not, and for passes that come back after a flush."""
    if command == "iptables-legacy":  # is spoken to only where it is what drops
        walls.run(command, "-w", "-P", "FORWARD", "DROP")
    first, before, address = _attach(node, pod, 51, iptablesAdminChainName="SITE")
    second, _, other = _attach(node, other_pod, 52)
    assert walls.reaches(other_pod, address)
    walls.run(command, "-w", "-A", "SITE", "-s", other, "-d", address, "-j", "DROP")
    assert not walls.reaches(other_pod, address) and walls.reaches(other_pod, "10.51.0.1")
    walls.run(command, "-w", "-P", "FORWARD", "DROP")
    walls.run(command, "-w", "-F", "FORWARD")

    def again() -> bool:
        if node.process is None:  # whoever calls next repairs it
            node.call("CHECK", first, pod, before=before)
        asked = ["-j SITE" in line for line in _forward(command)]
        return (len(asked), sum(asked)) == (6, 2) and asked[:2] == [True, True]

    wait_for(again, "the passes again, behind the chain")
    node.call("CHECK", first, pod, before=before)
    assert not walls.reaches(other_pod, address)
    walls.run(command, "-w", "-F", "SITE")
    for conf, name in ((first, pod), (second, other_pod)):
        node.call("DEL", conf, name, namespace="")
    assert walls.run(command, "-S") == "-P INPUT ACCEPT\n-P FORWARD DROP\n-P OUTPUT ACCEPT\n"


def test_the_usual_chain_counts_where_it_is_there(node: Lab, pod: str, other_pod: str) -> None:
    walls.run("iptables-nft", "-w", "-N", "CNI-ADMIN")
    walls.run("iptables-nft", "-w", "-A", "CNI-ADMIN", "-d", "10.53.0.2", "-j", "REJECT")
    conf, _, address = _attach(node, pod, 53)
    _attach(node, other_pod, 54)
    assert not walls.reaches(other_pod, address)
    node.call("DEL", conf, pod, namespace="")
    assert "-j REJECT" in walls.run("iptables-nft", "-S", "CNI-ADMIN") and "10.53." not in str(_forward())


def test_same_bridge_and_isolated(lab: Lab, pod: str, other_pod: str, third_pod: str) -> None:
    """Between bridges that have a policy nothing new passes; one without a policy is reached and reaches."""
    lab.start()
    _, _, apart = _attach(lab, pod, 41, ingressPolicy="same-bridge")
    conf, before, _ = _attach(lab, other_pod, 42, ingressPolicy="isolated")
    _, _, free = _attach(lab, third_pod, 43)
    assert not walls.reaches(other_pod, apart)
    assert walls.reaches(other_pod, free) and walls.reaches(third_pod, apart)
    lab.call("CHECK", conf, other_pod, before=before)
    lab.call("DEL", conf, other_pod)
    assert walls.reaches(other_pod, apart)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("backend", "ebtables"),
        ("ingressPolicy", "shut"),
        ("iptablesAdminChainName", "FORWARD"),
        ("iptablesAdminChainName", "a; b"),
        ("firewalldZone", 7),
        ("backend", 7),
    ],
)
def test_what_is_wrong_is_named(lab: Lab, pod: str, key: str, value: object) -> None:
    before = {"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.2/24"}]}
    conf = {"cniVersion": "1.0.0", "name": "n", "type": "firewall", key: value}
    with pytest.raises(CniFailed, match=key) as found:
        lab.call("ADD", conf, pod, before=before)
    assert found.value.code == 7
    bridgeless = {"cniVersion": "1.0.0", "name": "n", "type": "firewall", "ingressPolicy": "isolated"}
    with pytest.raises(CniFailed, match="needs a bridge"):
        lab.call("ADD", bridgeless, pod, before=before)


def test_a_zone_of_firewalld_is_never_passed_over(lab: Lab, pod: str, other_pod: str, tmp_path: Path) -> None:
    """One that holds pods back is refused where firewalld runs, and what lets all pass is as without."""
    lab.start()
    conf, before, _ = _attach(lab, pod, 61, firewalldZone="public")
    lab.call("DEL", conf, pod)
    with pytest.raises(CniFailed, match="firewalldZone: public") as refused:
        lab.call("ADD", conf | {"backend": "firewalld"}, pod, before=before)
    assert refused.value.code == 7
    (tmp_path / "fw").mkdir()
    with walls.Firewalld(tmp_path / "fw").running():
        with pytest.raises(CniFailed, match="firewalldZone: public") as refused:
            lab.call("ADD", conf, pod, before=before)
        assert refused.value.code == 7 and not walls.passes()
        lab.call("ADD", conf | {"backend": "iptables"}, pod, before=before)
        _, _, address = _attach(lab, other_pod, 62, firewalldZone="trusted")
        assert walls.reaches(pod, address)

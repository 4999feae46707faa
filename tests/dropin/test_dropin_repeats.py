"""A chain that names one plugin more than once: each has its turn, and goes with the DEL of any."""

from __future__ import annotations

import signal
import subprocess
from typing import Any

import pytest
from dropin_lab import CniFailed, Lab, buried, ip, links, wait_for

pytestmark = pytest.mark.kernel

UDP = {"hostPort": 8053, "containerPort": 53, "protocol": "udp"}
UP, DOWN = "net.ipv4.conf.IFNAME.arp_filter", "net.ipv4.conf.IFNAME.rp_filter"
INGRESS = {"ingressRate": 1000000, "ingressBurst": 800000}
EGRESS = {"egressRate": 2000000, "egressBurst": 800000}
TUNED = [{"sysctl": {UP: "1"}, "mtu": 1400, "promisc": True}, {"sysctl": {DOWN: "1"}, "mtu": 1300}]


def conf(kind: str, **keys: Any) -> dict[str, Any]:
    return {"cniVersion": "1.1.0", "name": "net", "type": kind, **keys}


def bridge(lab: Lab) -> dict[str, Any]:
    ipam = {"type": "host-local", "dataDir": str(lab.data), "subnet": "10.88.0.0/16"}
    return conf("bridge", bridge="cni0", isGateway=True, ipam=ipam)


def portmap(**keys: Any) -> dict[str, Any]:
    return conf("portmap", runtimeConfig={"portMappings": [UDP]}, **keys)


def all_of(lab: Lab, chain: list[dict[str, Any]], pod: str) -> dict[str, Any]:
    """The result of a chain's ADD."""
    result: dict[str, Any] = {}
    for one in chain:
        result = lab.call("ADD", one, pod, before=result or None)
    return result


def set_to(pod: str, *keys: str) -> list[str]:
    return [
        subprocess.run(
            ["ip", "netns", "exec", pod, "sysctl", "-n", key.replace("IFNAME", "eth0")],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for key in keys
    ]


def ruleset() -> str:
    return subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True).stdout


def test_the_last_tuning_counts_and_all_is_put_back(node: Lab, pod: str) -> None:
    chain = [bridge(node), *(conf("tuning", **keys) for keys in TUNED)]
    result = all_of(node, chain, pod)
    assert set_to(pod, UP, DOWN) == ["1", "1"]
    assert ip("link", "show", "eth0", inside=pod)[0]["mtu"] == 1300
    for one in chain:
        node.call("CHECK", one, pod, before=result)
    node.call("DEL", chain[2], pod, before=result)
    (back,) = ip("link", "show", "eth0", inside=pod)
    assert (back["mtu"], back.get("promiscuity", 0)) == (1500, 0)
    node.call("DEL", chain[1], pod, before=result)
    node.call("DEL", chain[0], pod, before=result)
    all_of(node, chain, pod)  # once more, by the same names


@pytest.mark.parametrize("key", [UP, DOWN])
def test_check_of_either_finds_what_either_set(node: Lab, pod: str, key: str) -> None:
    chain = [bridge(node), *(conf("tuning", **keys) for keys in TUNED)]
    result = all_of(node, chain, pod)
    lost = key.replace("IFNAME", "eth0")
    subprocess.run(["ip", "netns", "exec", pod, "sysctl", "-qw", f"{lost}=0"], check=True)
    for one in chain[1:]:
        with pytest.raises(CniFailed, match=lost.split(".")[-1]):
            node.call("CHECK", one, pod, before=result)


def test_two_portmaps(node: Lab, pod: str) -> None:
    """By one the port is open to all, by the other to some; one masquerades its subnet, the other all."""
    chain = [bridge(node), portmap(), portmap(masqAll=True, conditionsV4=["-s", "192.0.2.0/24"])]
    result = all_of(node, chain, pod)
    found = ruleset()
    assert "8053 : 10.88.0.2 . 53" in found and "ip saddr 192.0.2.0/24 dnat" in found
    assert "10.88.0.2 . 10.88.0.0/16" in found
    for one in chain:
        node.call("CHECK", one, pod, before=result)
    node.call("DEL", chain[2], pod, before=result)
    assert "10.88.0.2" not in ruleset() and "8053" not in ruleset()


def test_two_limits_of_one_way_each(node: Lab, pod: str) -> None:
    chain = [bridge(node), conf("bandwidth", **INGRESS), conf("bandwidth", **EGRESS)]
    result = all_of(node, chain, pod)
    for one in chain:
        node.call("CHECK", one, pod, before=result)
    queues = subprocess.run(["tc", "qdisc", "show"], capture_output=True, text=True).stdout
    assert queues.count("tbf") == 2
    for one in reversed(chain):
        node.call("DEL", one, pod, before=result)
    wait_for(lambda: not links("ifb"), "the device is gone")


def test_a_second_limit_of_the_same_way_is_refused(node: Lab, pod: str) -> None:
    result = all_of(node, [bridge(node), conf("bandwidth", **INGRESS)], pod)
    with pytest.raises(CniFailed, match="ingress is limited already") as refused:
        node.call("ADD", conf("bandwidth", **INGRESS, **EGRESS), pod, before=result)
    assert refused.value.code == 101 and not links("ifb")


@pytest.mark.parametrize("policy", ["open", "same-bridge"])
def test_two_firewalls(node: Lab, pod: str, policy: str) -> None:
    """What lets the pod through stands until the last of them goes, and so does its mark in the ledger."""
    chain_of = "type filter hook forward priority 0; policy drop;"
    subprocess.run(["nft", f"add table ip filter; add chain ip filter FORWARD {{ {chain_of} }}"], check=True)
    chain = [bridge(node), conf("firewall"), conf("firewall", ingressPolicy=policy)]
    result = all_of(node, chain, pod)
    assert "10.88.0.2" in ruleset()
    for one in chain:
        node.call("CHECK", one, pod, before=result)
    for one in reversed(chain):
        node.call("DEL", one, pod, before=result)
    assert "10.88.0.2" not in ruleset()


def test_an_agent_killed_in_the_second_turn(lab: Lab, pod: str) -> None:
    """The first one stands after the restart; DEL takes it too, and the whole chain works again."""
    chain = [bridge(lab), *(conf("tuning", **keys) for keys in TUNED)]
    lab.start()
    result = all_of(lab, chain[:2], pod)
    lab.stop()
    lab.start(PODWAY_FAULT="add.inside")
    with pytest.raises(CniFailed) as cut:
        lab.call("ADD", chain[2], pod, before=result)
    assert cut.value.code == 11 and lab.process is not None
    assert lab.process.wait(30) == -signal.SIGKILL
    lab.process = None
    lab.start()
    assert ip("link", "show", "eth0", inside=pod)[0]["mtu"] == 1400
    lab.call("CHECK", chain[1], pod, before=result)
    for one in reversed(chain):
        lab.call("DEL", one, pod, before=result)
    wait_for(lambda: buried(lab), "all of the pod is gone")
    result = all_of(lab, chain, pod)
    lab.stop()
    lab.start()
    for one in chain:
        lab.call("CHECK", one, pod, before=result)


def test_an_agent_killed_between_the_turns_of_a_del(lab: Lab, pod: str) -> None:
    lab.start(PODWAY_FAULT="delete.detached")
    chain = [bridge(lab), portmap(), portmap(conditionsV4=["-s", "192.0.2.0/24"])]
    result = all_of(lab, chain, pod)
    with pytest.raises(CniFailed):
        lab.call("DEL", chain[2], pod, before=result)
    assert lab.process is not None and lab.process.wait(30) == -signal.SIGKILL
    lab.process = None
    lab.start()
    for one in reversed(chain):
        lab.call("DEL", one, pod, before=result)
    wait_for(lambda: buried(lab) and "8053" not in ruleset(), "all of the pod is gone")


def test_gc_takes_every_turn(node: Lab, pod: str) -> None:
    chain = [bridge(node), *(conf("tuning", **keys) for keys in TUNED), portmap(), portmap(snat=False)]
    all_of(node, chain, pod)
    for one in chain:
        node.call("GC", one | {"cni.dev/valid-attachments": []}, pod)
    assert ip("link", "show", "lo", inside=pod) and "8053" not in ruleset()
    wait_for(lambda: not links("veth"), "the link is gone")


def test_the_next_namespace_of_a_container_is_not_its_next_turn(node: Lab, pod: str, other_pod: str) -> None:
    """A container that comes again without a DEL of what it had."""
    chain = [bridge(node), conf("tuning", **TUNED[0])]
    result = all_of(node, chain, pod)
    there = f"/run/netns/{other_pod}"
    with pytest.raises(CniFailed, match="send DEL first") as refused:
        node.call("ADD", conf("tuning", sysctl={UP: "1"}), pod, before=result, namespace=there)
    assert refused.value.code == 101

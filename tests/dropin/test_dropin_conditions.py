"""Conditions of published ports: what is asked, in both spellings, and whose packets come through."""

from __future__ import annotations

import subprocess

import pytest
from differ_rules import DELIBERATE, unexplained
from differ_world import NODE4, UPLINK, Case, Step
from differential import differences, ours, release, together
from dropin_lab import Lab, wait_for

from podway.cni.dropin.conditions import conditions
from podway.cni.reader import Section
from podway.model.dropin import Condition


def meant(words: list[str]) -> list[Condition]:
    return list(conditions(Section({"conditionsV4": words}), 4))


def test_iptables_words() -> None:
    """Long and short, negated, in one text or in many; a link's wildcard."""
    assert meant(["!", "-d", "192.0.2.7/24"]) == [Condition("daddr", "192.0.2.0/24", True)]
    both = [Condition("saddr", "10.0.0.1/32"), Condition("iifname", "eth*", True)]
    assert meant(["--source", "10.0.0.1", "!", "-i", "eth+"]) == both
    assert meant(["-s 10.0.0.1 ! --in-interface eth+"]) == both
    assert meant([]) == meant([""]) == []


def test_words_of_nft() -> None:
    """As the reference takes them with ``backend: nftables``."""
    assert meant(["ip saddr != 10.0.0.0/8"]) == [Condition("saddr", "10.0.0.0/8", True)]
    both = [Condition("daddr", "10.0.0.1/32"), Condition("iifname", "lo")]
    assert meant(["ip", "daddr", "10.0.0.1", 'iifname "lo"']) == both


@pytest.mark.kernel
@pytest.mark.parametrize(
    ("words", "comes"),
    [
        (["!", "-d", NODE4], False),
        (["-i", UPLINK[:-1] + "+", "-d", "198.51.100.0/24"], True),
        (["!", "-i", "lo", "!", "-s", "192.0.2.0/24"], True),
    ],
)
def test_as_the_reference_does(words: list[str], comes: bool) -> None:
    """From outside, from the node and from the pod itself; CHECK, and nothing is left."""
    ipam = {"type": "host-local", "dataDir": "DATA", "ranges": [[{"subnet": "10.88.0.0/16"}]]}
    bridge = {"type": "bridge", "bridge": "cni0", "isDefaultGateway": True, "ipam": ipam}
    ports = {"type": "portmap", "capabilities": {"portMappings": True}, "conditionsV4": words}
    case = Case(
        version="1.0.0",
        plugins=(bridge, ports),
        steps=tuple(Step(command=one) for one in ("ADD", "CHECK", "DEL")),
        capabilities={"portMappings": [{"hostPort": 8053, "containerPort": 53, "protocol": "udp"}]},
    )
    reference, own = together(case, (release(), ours()))
    rest = unexplained(differences(reference, own), DELIBERATE)
    assert not rest, "\n".join(map(str, rest))
    answered = own["0 ADD"]["effects"][f"outside to {NODE4}:8053"] != "no answer"
    assert answered == comes


@pytest.mark.kernel
def test_a_flush_is_repaired(lab: Lab, pod: str) -> None:
    """And what is left of the pod goes with DEL."""
    lab.start()
    before = {"ips": [{"address": "10.88.0.2/16"}]}
    mappings = [{"hostPort": 8053, "containerPort": 53, "protocol": "udp"}]
    conf = {"cniVersion": "1.0.0", "name": "net", "type": "portmap", "conditionsV4": ["-s", "10.0.0.0/8"]}
    conf |= {"runtimeConfig": {"portMappings": mappings}}

    def rules() -> list[str]:
        shown = subprocess.run(["nft", "list", "table", "inet", "podway"], capture_output=True, text=True)
        return [line.strip() for line in shown.stdout.splitlines() if "dport 8053" in line]

    lab.call("ADD", conf, pod, before=before)
    found = rules()
    assert len(found) == 2 and all("ip saddr 10.0.0.0/8 dnat ip to 10.88.0.2:53" in one for one in found)
    subprocess.run(["nft", "flush", "ruleset"], check=True)
    wait_for(lambda: rules() == found)
    lab.call("CHECK", conf, pod, before=before)
    lab.call("DEL", conf, pod)
    assert rules() == []

"""Pods of the reference plugins from before the switch: DEL, CHECK and GC free what is theirs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from bench.built import CACHE, built
from bench.chain import Attachment, Chain
from dropin_lab import CniFailed, Lab, ip, links, wait_for

from bench import reference
from podway.plan.dropin.foreign import Attached, chains, removals

pytestmark = pytest.mark.kernel

PORTS = {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}
#: (executables, backend of masquerade and ports)
OLD = [
    ("Debian", "iptables"),
    ("Debian", "iptables-legacy"),
    (reference.RELEASE, "iptables"),
    (reference.RELEASE, "nftables"),
]
LIMITS = {"ingressRate": 8000000, "ingressBurst": 8000000, "egressRate": 8000000, "egressBurst": 8000000}
TUNED = "02:11:22:33:44:55"


@pytest.fixture(params=OLD, ids=lambda one: " ".join(one))
def old(request: pytest.FixtureRequest, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Chain:
    """The reference plugins' chain, as it ran before the switch; with an agent now, or without."""
    which, backend = request.param
    if backend.startswith("iptables"):
        lab.start()
    if backend == "iptables-legacy":  # by the name that the plugins call it by, as a distribution may have it
        (lab.directory / "legacy").mkdir()
        for name in ("iptables", "ip6tables"):
            (lab.directory / "legacy" / name).symlink_to(str(shutil.which(f"{name}-legacy")))
        monkeypatch.setenv("PATH", f"{lab.directory}/legacy:{os.environ['PATH']}")
    if which == reference.RELEASE:
        built(reference.NAME, reference.MODULE, reference.PROOF)
    directory = CACHE / reference.NAME if which == reference.RELEASE else reference.DEBIAN
    conflist = reference.Reference(which, directory, backend).conflist("ports", lab.data)
    conflist["plugins"][0]["ipMasq"] = True
    tuning = {
        "type": "tuning",
        "mac": TUNED,
        "mtu": 1400,
        "promisc": True,
        "dataDir": str(lab.directory / "t"),
    }
    conflist["plugins"] += [{"type": "bandwidth", "capabilities": {"bandwidth": True}}, tuning]
    return Chain(conflist, str(directory))


def ours(old: Chain, plugin: int = 0) -> dict[str, Any]:
    """A plugin's configuration, for the plugin that has its name now; the first is bridge."""
    told = {"runtimeConfig": {**PORTS, "bandwidth": LIMITS}}
    return {**old.conflist["plugins"][plugin], "name": old.conflist["name"], "cniVersion": "1.1.0", **told}


def attach(old: Chain, pod: str, port: int = 8080) -> dict[str, Any]:
    """By the reference plugins."""
    ports = {"portMappings": [{**PORTS["portMappings"][0], "hostPort": port}]}
    return old.add(Attachment(pod, f"/run/netns/{pod}", {**ports, "bandwidth": LIMITS}))


def traces(address: str, pod: str) -> list[str]:
    """Lines of nftables and iptables-legacy that are about a pod."""
    rules = _printed("nft", "-s", "list", "ruleset")
    for table in ("nat", "filter"):
        if table in Path("/proc/thread-self/net/ip_tables_names").read_text():
            rules += _printed("iptables-legacy", "-w", "-t", table, "-S")
    own, at = removals_names(pod), (f"{address} ", f"{address}/")
    return [line for line in rules.splitlines() if any(one in line for one in (*at, *own))]


def _printed(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def removals_names(pod: str) -> tuple[str, ...]:
    """What the reference plugins call what is a container's."""

    return (*chains(Attached(network="bench-ports", container=pod, ifname="eth0")), f'"{pod}"', f"id: {pod}")


def bare(result: dict[str, Any]) -> str:
    """The pod's address."""
    return str(result["ips"][0]["address"]).partition("/")[0]


@pytest.mark.parametrize("namespace", ["given", "empty"])
def test_del_frees_what_theirs_is_and_nothing_else(
    lab: Lab, old: Chain, pod: str, other_pod: str, namespace: str
) -> None:
    mine, other = bare(attach(old, pod)), bare(attach(old, other_pod, 8081))
    kept = traces(other, other_pod)
    assert traces(mine, pod)
    assert kept
    assert len(links("ifb")) == 2
    for _ in range(2):
        lab.call("DEL", ours(old), pod, namespace=None if namespace == "given" else "")
    assert len(links("ifb")) == 1
    assert traces(mine, pod) == []
    assert traces(other, other_pod) == kept
    network = lab.data / "bench-ports"
    assert not (network / mine).exists()
    assert (network / other).exists()
    if namespace == "given":
        wait_for(lambda: len(links("veth")) == 1)
        assert not [one for one in ip("link", inside=pod) if one["ifname"] == "eth0"]
    assert [one for one in ip("link", inside=other_pod) if one["ifname"] == "eth0"]


@pytest.mark.parametrize("namespace", ["given", "empty"])
def test_what_tuning_changed_is_put_back(lab: Lab, old: Chain, pod: str, namespace: str) -> None:
    result = attach(old, pod)
    (kept,) = (lab.directory / "t").iterdir()
    before = json.loads(kept.read_text())["mac"]
    lab.call("DEL", ours(old, -1), pod, namespace=None if namespace == "given" else "", before=result)
    assert not kept.exists()
    (link,) = ip("link", "show", "eth0", inside=pod)
    mac, mtu = (before, 1500) if namespace == "given" else (TUNED, 1400)
    assert (link["address"], link["mtu"], "PROMISC" in link["flags"]) == (mac, mtu, namespace == "empty")
    lab.call("DEL", ours(old, -1), pod, before=result)
    lab.call("DEL", ours(old), pod)


DAMAGES = {
    "link .* is down": "ip link set VETH down",
    "no port of bridge cni0": "ip link set VETH nomaster",
    "link VETH is missing": "ip link del VETH",
    "rule that masquerades": "IPTABLES -t nat -F; IPTABLES -t nat -X;"
    "nft delete table inet cni_plugins_masquerade",
    "rule of its published ports": "IPTABLES -t nat -F CNI-HOSTPORT-DNAT; IPTABLES -t nat -F PORTS;"
    "IPTABLES -t nat -X PORTS; nft delete table ip cni_hostport",
    "rule in CNI-FORWARD": "IPTABLES -F CNI-FORWARD",
    "limit on link VETH": "tc qdisc del dev VETH root",
    "link bwp[0-9a-f]* is missing": "ip link del IFB",
    "eth0 differs in the pod": "ip -n POD link set eth0 mtu 1300",
}


def test_check_finds_their_pods_whole(lab: Lab, old: Chain, pod: str, request: pytest.FixtureRequest) -> None:
    """And each damage, on the node and in the pod."""
    iptables = "iptables-legacy" if "legacy" in os.environ["PATH"] else "iptables-nft"
    rules_alone = request.node.callspec.id != "Debian iptables"  # the rest is the same for all
    for found, damage in DAMAGES.items():
        if rules_alone and "rule" not in found:
            continue
        result = attach(old, pod)
        for number in range(len(old.conflist["plugins"])):
            lab.call("CHECK", ours(old, number), pod, before=result)
        veth = next(one["name"] for one in result["interfaces"] if one["name"].startswith("veth"))
        _, ports, *_ = removals_names(pod)
        words = {"VETH": veth, "IFB": links("ifb")[0], "POD": pod, "IPTABLES": iptables, "PORTS": ports}
        for word, real in words.items():
            damage, found = damage.replace(word, real), found.replace(word, real)
        subprocess.run(["sh", "-c", damage], capture_output=True)
        with pytest.raises(CniFailed, match=found):
            for number in range(len(old.conflist["plugins"])):
                lab.call("CHECK", ours(old, number), pod, before=result)
        for number in reversed(range(len(old.conflist["plugins"]))):
            lab.call("DEL", ours(old, number), pod, before=result)


def test_gc_frees_their_pods_that_are_gone(lab: Lab, old: Chain, pod: str, other_pod: str) -> None:
    mine, other = bare(attach(old, pod)), bare(attach(old, other_pod, 8081))
    kept = traces(other, other_pod)
    valid = [{"containerID": other_pod, "ifname": "eth0"}]
    lab.call("GC", {**ours(old), "cni.dev/valid-attachments": valid})
    assert traces(mine, pod) == []
    assert traces(other, other_pod) == kept
    assert not (lab.data / "bench-ports" / mine).exists()


def test_an_address_of_theirs_is_given_to_nobody(lab: Lab, old: Chain, pod: str, other_pod: str) -> None:
    mine = bare(attach(old, pod))
    result = lab.call("ADD", ours(old), other_pod)
    assert bare(result) != mine
    subprocess.run(["ip", "netns", "exec", other_pod, "ping", "-c1", "-W10", mine], check=True)
    lab.call("DEL", ours(old), other_pod, before=result)


def test_names_of_others_are_let_be() -> None:
    of = Attached(network="n", container="c", ifname="eth0", addresses=("10.0.0.2",))
    listing = """
table ip nat { # handle 1
	chain CNI-other { # handle 1
		counter masquerade # handle 2
	}
	chain POSTROUTING { # handle 3
		ip saddr 10.0.0.2 counter jump CNI-other # handle 4
	}
}
table ip filter { # handle 2
	chain CNI-FORWARD { # handle 1
		ip saddr 10.0.0.20 counter accept # handle 5
		ip saddr 10.0.0.2 counter accept # handle 6
	}
	chain FORWARD { # handle 2
		ip saddr 10.0.0.2 counter accept # handle 7
	}
}
"""
    assert removals(listing, of) == ("delete rule ip filter CNI-FORWARD handle 6",)

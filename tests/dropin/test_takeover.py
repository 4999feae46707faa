"""Pods of the reference plugins from before the switch: DEL, CHECK and GC free what is theirs."""

from __future__ import annotations

import subprocess
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
OLD = [("Debian", "iptables"), (reference.RELEASE, "iptables"), (reference.RELEASE, "nftables")]


@pytest.fixture(params=OLD, ids=lambda one: " ".join(one))
def old(request: pytest.FixtureRequest, lab: Lab) -> Chain:
    """The reference plugins' chain, as it ran before the switch; with an agent now, or without."""
    which, backend = request.param
    if backend == "iptables":
        lab.start()
    if which == reference.RELEASE:
        built(reference.NAME, reference.MODULE, reference.PROOF)
    directory = CACHE / reference.NAME if which == reference.RELEASE else reference.DEBIAN
    conflist = reference.Reference(which, directory, backend).conflist("ports", lab.data)
    conflist["plugins"][0]["ipMasq"] = True
    return Chain(conflist, str(directory))


def ours(old: Chain) -> dict[str, Any]:
    """The bridge plugin's configuration, for the plugin that has its name now."""
    return {**old.conflist["plugins"][0], "name": old.conflist["name"], "cniVersion": "1.1.0"}


def attach(old: Chain, pod: str, port: int = 8080) -> dict[str, Any]:
    """By the reference plugins."""
    ports = {"portMappings": [{**PORTS["portMappings"][0], "hostPort": port}]}
    return old.add(Attachment(pod, f"/run/netns/{pod}", ports))


def traces(address: str, pod: str) -> list[str]:
    """Lines of nftables that are about a pod."""
    rules = subprocess.run(["nft", "-s", "list", "ruleset"], capture_output=True, text=True, check=True)
    own = removals_names(pod)
    return [
        line for line in rules.stdout.splitlines() if f"{address} " in line or any(n in line for n in own)
    ]


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
    for _ in range(2):
        lab.call("DEL", ours(old), pod, namespace=None if namespace == "given" else "")
    assert traces(mine, pod) == []
    assert traces(other, other_pod) == kept
    network = lab.data / "bench-ports"
    assert not (network / mine).exists()
    assert (network / other).exists()
    if namespace == "given":
        wait_for(lambda: len(links("veth")) == 1)
        assert not [one for one in ip("link", inside=pod) if one["ifname"] == "eth0"]
    assert [one for one in ip("link", inside=other_pod) if one["ifname"] == "eth0"]


def test_check_finds_their_pods_whole(lab: Lab, old: Chain, pod: str) -> None:
    result = attach(old, pod)
    lab.call("CHECK", ours(old), pod, before=result)
    subprocess.run(["ip", "-n", pod, "address", "flush", "dev", "eth0"], check=True)
    with pytest.raises(CniFailed, match=bare(result)):
        lab.call("CHECK", ours(old), pod, before=result)


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

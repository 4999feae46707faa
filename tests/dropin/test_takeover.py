"""Pods of the reference plugins from before the switch: DEL, CHECK and GC free what is theirs."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import pytest
from bench.chain import Chain
from dropin_lab import CniFailed, Lab, ip, links, wait_for
from old_pods import OLD, TUNED, attach, bare, chain, ours, removals_names, traces

from bench import reference
from podway.plan.dropin.foreign import Attached, guarded, removals

pytestmark = pytest.mark.kernel


@pytest.fixture(params=OLD, ids=lambda one: " ".join(one))
def old(request: pytest.FixtureRequest, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Chain:
    """The reference plugins' chain, as it ran before the switch; with an agent now, or without."""
    which, backend = request.param
    if backend.startswith("iptables"):
        lab.start()
    return chain(lab, which, backend, monkeypatch)


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
    "guard of its MAC": "nft flush chain bridge nat GUARD",
    "limit on link VETH": "tc qdisc del dev VETH root",
    "link bwp[0-9a-f]* is missing": "ip link del IFB",
    "eth0 differs in the pod": "ip -n POD link set eth0 mtu 1300",
}


def test_check_finds_their_pods_whole(lab: Lab, old: Chain, pod: str, request: pytest.FixtureRequest) -> None:
    """And each damage, on the node and in the pod."""
    iptables = "iptables-legacy" if "legacy" in os.environ["PATH"] else "iptables-nft"
    rules_alone = request.node.callspec.id != "Debian iptables"  # the rest is the same for all
    for found, damage in DAMAGES.items():
        if rules_alone and "rule" not in found and "guard" not in found:
            continue
        result = attach(old, pod)
        for number in range(len(old.conflist["plugins"])):
            lab.call("CHECK", ours(old, number), pod, before=result)
        veth = next(one["name"] for one in result["interfaces"] if one["name"].startswith("veth"))
        _, ports, *_, guard = removals_names(pod)
        words = {
            "GUARD": guard,
            "VETH": veth,
            "IFB": links("ifb")[0],
            "POD": pod,
            "IPTABLES": iptables,
            "PORTS": ports,
        }
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


@pytest.mark.parametrize("ifname", ["eth0", "e{;}$#\"'"])
def test_a_guard_of_a_pod_without_addresses(lab: Lab, pod: str, other_pod: str, ifname: str) -> None:
    """macspoofchk's chains alone, of an interface with any name; the other pod's stay."""
    guarded_pods = {"type": "bridge", "bridge": "cni5", "macspoofchk": True}
    conf = {"cniVersion": "1.0.0", "name": "flat", **guarded_pods}
    lab.path, own = str(reference.DEBIAN), lab.path
    results = {one: lab.call("ADD", conf, one, ifname=ifname) for one in (pod, other_pod)}
    lab.path = own
    tables = _chains()
    assert len(tables) == 5
    lab.call("CHECK", conf, pod, ifname=ifname, before=results[pod])
    lab.call("DEL", conf, pod, ifname=ifname, before=results[pod])
    assert _chains() == {one for one in tables if pod not in one}
    assert json.dumps(_jumps()).count("jump") == 1
    lab.call("CHECK", conf, other_pod, ifname=ifname, before=results[other_pod])


def _chains() -> set[str]:
    return {one["chain"]["name"] for one in _guards() if "chain" in one}


def _jumps() -> list[Any]:
    return [one for one in _guards() if "rule" in one and one["rule"]["chain"] == "PREROUTING"]


def _guards() -> list[dict[str, Any]]:
    command = ["nft", "-j", "list", "table", "bridge", "nat"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: list[dict[str, Any]] = json.loads(done.stdout)["nftables"]
    return found


def test_an_address_of_theirs_is_given_to_nobody(lab: Lab, old: Chain, pod: str, other_pod: str) -> None:
    old.conflist["plugins"][0]["macspoofchk"] = False  # it would let nothing pass from tuning's MAC
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


def test_a_guard_is_whole_or_it_is_none() -> None:
    of = Attached(network="n", container="c", ifname="eth0")
    listing = """
table bridge nat { # handle 1
	chain PREROUTING { # handle 1
		type filter hook prerouting priority -300; policy accept;
		iifname "veth1" jump cni-br-iface-c-eth0 comment "macspoofchk-c-eth0" # handle 4
		iifname "veth2" jump cni-br-iface-c-eth01 comment "jump cni-br-iface-c-eth0" # handle 5
	}
	chain cni-br-iface-c-eth0 { # handle 2
		jump cni-br-iface-c-eth0-mac comment "macspoofchk-c-eth0" # handle 6
	}
	chain cni-br-iface-c-eth0-mac { # handle 3
		ether saddr 02:00:00:00:00:01 return comment "macspoofchk-c-eth0" # handle 7
		drop comment "macspoofchk-c-eth0" # handle 8
	}
	chain cni-br-iface-c-eth01 { # handle 9
	}
}
"""
    gone = ("rule bridge nat PREROUTING handle 4", "chain bridge nat handle 2", "chain bridge nat handle 3")
    assert removals(listing, of) == tuple(f"delete {one}" for one in gone)
    assert guarded(listing, of)
    for handle in (4, 6, 7, 8):
        lines = [line for line in listing.splitlines() if not line.endswith(f"# handle {handle}")]
        assert not guarded("\n".join(lines), of)
    assert not guarded(listing.replace("table bridge", "table ip"), of)

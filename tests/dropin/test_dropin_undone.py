"""An ADD that fails leaves the pod as it was, however late: what fuzz/test_calls has found, by name."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from dropin_engine import Here
from dropin_lab import CniFailed, ip, pods

pytestmark = pytest.mark.kernel

BEFORE = {"interfaces": [{"name": "eth0", "sandbox": "/run/netns/undone"}], "ips": []}


@pytest.fixture
def pod() -> Iterator[str]:
    """A container, and its network namespace."""
    with pods("undone"):
        yield "undone"


def conf(plugin: str, **more: Any) -> dict[str, Any]:
    ipam = {"type": "static", "addresses": [{"address": "10.31.0.2/24", "gateway": "10.31.0.1"}]}
    return {"cniVersion": "1.0.0", "name": "undone", "type": plugin, "ipam": ipam, **more}


def inside(pod: str, *command: str) -> str:
    return subprocess.run(
        ["ip", "netns", "exec", pod, *command], check=True, capture_output=True, text=True
    ).stdout


def interface(pod: str) -> None:
    """eth0 in the pod, with an address, and lo."""
    for command in (
        "link set lo up",
        "link add eth0 type veth peer name other0",
        "addr add 10.31.0.2/24 dev eth0",
        "link set eth0 up",
    ):
        subprocess.run(["ip", "-n", pod, *command.split()], check=True)


@pytest.mark.parametrize("plugin", ["bridge", "ptp"])
def test_an_interface_is_gone_when_the_error_is_told(here: Here, pod: str, plugin: str) -> None:
    """Not a moment later: it failed once everything stood, by what belongs to the answer alone."""
    with pytest.raises(CniFailed, match="dns: must be an object"):
        here.call("ADD", conf(plugin, dns="none"), pod)
    assert [one["ifname"] for one in ip("link", inside=pod)] == ["lo"]


def test_sysctls_are_as_they_were(here: Here, pod: str) -> None:
    """tuning: the first of them took, the second didn't. Those of an ADD that succeeds outlive its DEL."""
    interface(pod)
    some = "net.ipv4.conf.eth0.arp_notify"
    before = {**BEFORE, "cniVersion": "1.0.0"}
    with pytest.raises(CniFailed, match="tcp_none"):
        here.call("ADD", conf("tuning", sysctl={some: "1", "net.ipv4.tcp_none": "1"}), pod, before=before)
    assert inside(pod, "sysctl", "-n", some) == "0\n"
    here.call("ADD", conf("tuning", sysctl={some: "1"}), pod, before=before)
    here.call("DEL", conf("tuning", sysctl={some: "1"}), pod)
    assert inside(pod, "sysctl", "-n", some) == "1\n"


def test_no_mac_where_none_could_be_put_back(here: Here, pod: str) -> None:
    """tuning of lo: the kernel takes one, but not the former zeros again."""
    with pytest.raises(CniFailed, match="mac: lo has none that could be changed") as failed:
        here.call(
            "ADD", conf("tuning", mac="02:00:00:00:00:09", txQLen=7), pod, "lo", {"cniVersion": "1.0.0"}
        )
    assert failed.value.code == 7
    (found,) = ip("link", inside=pod)
    assert (found["address"], found["txqlen"]) == ("00:00:00:00:00:00", 1000)


ALL = ("global", "link")
#: of a next hop that nothing leads to: the kernel refuses it once bridge and veth stand
LOST = [{"dst": "203.0.113.0/24", "gw": "192.0.2.1"}]


def gateway(*routes: dict[str, str], **more: Any) -> dict[str, Any]:
    made = conf("bridge", bridge="cni5", isGateway=True, **more)
    return made | {"ipam": made["ipam"] | {"routes": list(routes)}}


def bridged(scopes: tuple[str, ...] = ("global",)) -> list[dict[str, Any]]:
    """What is to be seen of cni5: addresses of these scopes, flags, MAC, alias."""
    kept = ("address", "promiscuity", "mtu", "ifalias")
    found = ip("-d", "addr", "show", "type", "bridge")
    return [
        {key: one.get(key) for key in kept}
        | {"up": "UP" in one["flags"]}
        | {"addr_info": sorted(a["local"] for a in one["addr_info"] if a["scope"] in scopes)}
        for one in found
        if one
    ]


def test_a_bridge_that_failed_with_its_first_pod_is_gone(here: Here, pod: str) -> None:
    with pytest.raises(CniFailed, match="unreachable"):
        here.call("ADD", gateway(*LOST), pod)
    assert not bridged() and not here.engine.pieces.known
    here.call("ADD", gateway(), pod)
    assert bridged()[0]["addr_info"] == ["10.31.0.1"]


@pytest.mark.parametrize("more", [{}, {"promiscMode": True}, {"dns": "none"}])
def test_a_bridge_that_stood_is_as_it_was(here: Here, pod: str, more: dict[str, Any]) -> None:
    """With the gateway of a pod's network, and without that of one that failed, be it by its answer alone."""
    with pods("first"):
        here.call("ADD", gateway(), "first")
        stood, known = bridged(ALL), dict(here.engine.pieces.known)
        failing = gateway(*([] if "dns" in more else LOST), name="other", **more)
        failing["ipam"]["addresses"] = [{"address": "fd00:31::2/64", "gateway": "fd00:31::1"}]
        with pytest.raises(CniFailed):
            here.call("ADD", failing, pod)
        assert bridged(ALL) == stood and here.engine.pieces.known == known
        here.call("DEL", gateway(), "first")


def test_a_bridge_of_somebodys_is_as_it_was(here: Here, pod: str) -> None:
    """Its address that was in the way is back, and the ledger owes it nothing."""
    for command in (
        "link add cni5 address c2:11:22:33:44:05 type bridge",
        "addr add 10.31.0.99/24 dev cni5",
        "link set cni5 up",
    ):
        subprocess.run(["ip", *command.split()], check=True)
    stood, owed = bridged(), here.engine.database.ledger()
    for more in ({}, {"promiscMode": True}):
        with pytest.raises(CniFailed):
            here.call("ADD", gateway(*LOST, forceAddress=True, **more), pod)
        assert bridged() == stood and here.engine.database.ledger() == owed
    here.call("ADD", gateway(forceAddress=True), pod)
    assert bridged()[0]["addr_info"] == ["10.31.0.1"]

"""``loopback``: lo is up after ADD, down after DEL; what it has is told, as by the reference plugin."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
from differential import release
from dropin_lab import CniFailed, Lab, ip

pytestmark = pytest.mark.kernel
CONF = {"cniVersion": "1.1.0", "name": "lo", "type": "loopback"}


def is_up(pod: str) -> bool:
    """Whether lo is."""
    return "UP" in ip("link", "show", "lo", inside=pod)[0]["flags"]


def test_up_and_down(node: Lab, pod: str) -> None:
    """The result is the reference plugin's."""
    result = node.call("ADD", CONF, pod, ifname="lo")
    assert result["interfaces"] == [
        {"name": "lo", "mac": "00:00:00:00:00:00", "sandbox": f"/run/netns/{pod}"}
    ]
    assert [one["address"] for one in result["ips"]] == ["127.0.0.1/8", "::1/128"]
    assert is_up(pod)
    node.call("CHECK", CONF, pod, before=result)
    node.call("DEL", CONF, pod)
    assert not is_up(pod)
    with pytest.raises(CniFailed, match="lo is down"):
        node.call("CHECK", CONF, pod, before=result)
    node.call("DEL", CONF, pod, namespace="")


OFF = "ip netns exec {} sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1"


def as_the_reference(node: Lab, pod: str, other: str, before: Any = None) -> dict[str, Any]:
    """Our answer in ``pod``, which theirs in ``other`` is but for the path. Raises CniFailed if both fail."""
    own, node.path = node.path, release().directory
    theirs: dict[str, Any] = {}
    try:
        theirs = node.call("ADD", CONF, other, ifname="lo", before=before)
    except CniFailed:
        pass
    finally:
        node.path = own
    if not theirs:
        with pytest.raises(CniFailed) as failed:
            node.call("ADD", CONF, pod, ifname="lo", before=before)
        raise failed.value
    found = node.call("ADD", CONF, pod, ifname="lo", before=before)
    for one in theirs["interfaces"]:
        one["sandbox"] = one["sandbox"].replace(other, pod)
    assert found == theirs
    return found


@pytest.mark.parametrize(
    ("commands", "addresses"),
    [
        ([OFF], ["127.0.0.1/8"]),
        (["ip -n {} addr add 127.0.0.5/8 dev lo"], ["127.0.0.5/8", "::1/128"]),
        (["ip -n {} link set lo up", "ip -n {} addr add 127.0.0.5/16 dev lo"], ["127.0.0.1/8", "::1/128"]),
        (["ip -n {} link set lo up", "ip -n {} addr flush dev lo"], []),
        ([OFF, "ip -n {} link set lo up", "ip -n {} addr flush dev lo"], []),
    ],
)
def test_the_addresses_that_lo_has(
    node: Lab, pod: str, other_pod: str, commands: list[str], addresses: list[str]
) -> None:
    """Without IPv6, with one of somebody's own, and without any."""
    for command in commands:
        for one in (pod, other_pod):
            subprocess.run(command.format(one).split(), check=True)
    found = as_the_reference(node, pod, other_pod)
    assert [one["address"] for one in found.get("ips", [])] == addresses
    node.call("CHECK", CONF, pod, before=found)


@pytest.mark.parametrize("address", ["10.9.0.1/32", "fd00:9::1/128"])
def test_another_address_on_lo_is_refused(node: Lab, pod: str, other_pod: str, address: str) -> None:
    """As by the reference plugin, which sets lo up all the same."""
    for one in (pod, other_pod):
        subprocess.run(["ip", "-n", one, "addr", "add", address, "dev", "lo"], check=True)
    with pytest.raises(CniFailed, match=f"lo has {address} in the pod, which is no loopback") as failed:
        as_the_reference(node, pod, other_pod)
    assert failed.value.code == 101 and not is_up(pod)


def test_lo_has_ipv6_where_the_pod_has(node: Lab, pod: str) -> None:
    """Though the runtime started the pod without."""
    subprocess.run(OFF.format(pod).split(), check=True)
    node.call("ADD", CONF, pod, ifname="lo")
    ipam = {"type": "static", "addresses": [{"address": "fd00:9::2/64"}]}
    node.call("ADD", {"cniVersion": "1.1.0", "name": "six", "type": "bridge", "ipam": ipam}, pod)
    assert [one["local"] for one in ip("-6", "addr", "show", "lo", inside=pod)[0]["addr_info"]] == ["::1"]

"""``macvlan`` end to end: the real executable, with an agent and without. Others like it are in the guest."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
from dropin_lab import CniFailed, Lab, ip, wait_for

pytestmark = pytest.mark.kernel


def conf(lab: Lab, **more: Any) -> dict[str, Any]:
    """A dual stack network on the node's up0."""
    ranges = [[{"subnet": "10.24.0.0/24"}], [{"subnet": "fd00:24::/64"}]]
    routes = [{"dst": "0.0.0.0/0"}, {"dst": "fd99::/32", "gw": "fd00:24::9"}]
    ipam = {"type": "host-local", "dataDir": str(lab.data), "ranges": ranges, "routes": routes}
    return {"cniVersion": "1.1.0", "name": "n3", "type": "macvlan", "master": "up0", "ipam": ipam, **more}


@pytest.fixture
def on_lan(in_namespace: int, lab: Lab) -> Lab:
    """A node with an agent and an uplink up0, whose other end is lan0."""
    command = "ip link add up0 type veth peer name lan0"
    subprocess.run(command.split(), check=True)
    for name in ("up0", "lan0"):
        subprocess.run(["ip", "link", "set", name, "up"], check=True)
    lab.start()
    return lab


def link(pod: str, name: str = "eth0") -> dict[str, Any]:
    """Of a pod, in detail."""
    found: dict[str, Any] = ip("-d", "link", "show", name, inside=pod)[0]
    return found


def names(pod: str) -> list[str]:
    """Of the links of a pod."""
    return [one["ifname"] for one in ip("link", inside=pod)]


@pytest.mark.parametrize("agent", [True, False], ids=["agent", "in-process"])
def test_a_pod_comes_and_goes(on_lan: Lab, pod: str, agent: bool) -> None:
    """Result and kernel as the reference plugin leaves them; DEL with nothing but the names takes all."""
    if not agent:
        on_lan.stop()
    result = on_lan.call("ADD", conf(on_lan, mtu=1400, dns={"domain": "x"}), pod)
    found = link(pod)
    assert result["interfaces"] == [
        {"name": "eth0", "mac": found["address"], "sandbox": f"/run/netns/{pod}"},
    ]
    assert result["ips"] == [
        {"interface": 0, "address": "10.24.0.2/24", "gateway": "10.24.0.1"},
        {"interface": 0, "address": "fd00:24::2/64", "gateway": "fd00:24::1"},
    ]
    assert result["dns"] == {"domain": "x"}
    assert (found["linkinfo"]["info_kind"], found["mtu"]) == ("macvlan", 1400)
    assert found["linkinfo"]["info_data"]["mode"] == "bridge" and "UP" in found["flags"]
    assert [one["gateway"] for one in ip("route", "show", "default", inside=pod)] == ["10.24.0.1"]
    assert ip("-6", "route", "show", "fd99::/32", inside=pod)[0]["gateway"] == "fd00:24::9"
    on_lan.call("CHECK", conf(on_lan), pod, before=result)
    on_lan.call("DEL", conf(on_lan), pod, namespace="")
    assert names(pod) == ["lo"]
    wait_for(lambda: not (on_lan.data / "n3" / "10.24.0.2").exists())
    on_lan.call("DEL", conf(on_lan), pod)


def test_pods_reach_each_other(on_lan: Lab, pod: str, other_pod: str) -> None:
    """By the master, over both families, in the mode bridge; the MAC is that which was asked for."""
    on_lan.call("ADD", conf(on_lan), pod)
    asked = {"runtimeConfig": {"mac": "02:00:00:00:24:03"}, "bcqueuelen": 500, "mac": "02:00:00:00:00:09"}
    on_lan.call("ADD", conf(on_lan, **asked), other_pod)
    found = link(other_pod)
    assert found["address"] == "02:00:00:00:24:03"
    assert found["linkinfo"]["info_data"]["bcqueuelen"] == 500
    for target in ("10.24.0.3", "fd00:24::3"):
        command = ["ip", "netns", "exec", pod, "ping", "-c1", "-W10", target]
        subprocess.run(command, check=True, capture_output=True)


def test_the_wire_hears_where_a_new_pod_is(on_lan: Lab, pod: str) -> None:
    """A gratuitous ARP, so that switches send to it from the first packet on."""
    import socket

    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806)) as wire:
        wire.bind(("lan0", 0))
        wire.settimeout(30)
        mac = on_lan.call("ADD", conf(on_lan), pod)["interfaces"][0]["mac"]
        frame = wire.recv(100)
    assert frame[6:12].hex(":") == mac
    assert frame[28:32] == frame[38:42] == bytes((10, 24, 0, 2))


def test_without_ipam_it_is_a_link_and_nothing_more(on_lan: Lab, pod: str) -> None:
    """And the master is that of the default route, where none is named."""
    for command in ("ip addr add 192.0.2.1/24 dev up0", "ip route add default via 192.0.2.2"):
        subprocess.run(command.split(), check=True)
    body = {"cniVersion": "1.0.0", "name": "n3", "type": "macvlan", "mode": "private"}
    result = on_lan.call("ADD", body, pod)
    assert "ips" not in result
    assert link(pod)["linkinfo"]["info_data"]["mode"] == "private"
    on_lan.call("CHECK", body, pod, before=result)
    on_lan.call("DEL", body, pod)
    assert names(pod) == ["lo"]


def test_a_master_in_the_pod(on_lan: Lab, pod: str) -> None:
    """linkInContainer: the two live and die with the pod."""
    subprocess.run(f"ip -n {pod} link add in0 type veth peer name in1".split(), check=True)
    body = conf(on_lan, master="in0", linkInContainer=True)
    result = on_lan.call("ADD", body, pod)
    assert link(pod)["link"] == "in0"
    on_lan.call("CHECK", body, pod, before=result)
    on_lan.call("DEL", body, pod)
    assert set(names(pod)) == {"lo", "in0", "in1"}


@pytest.mark.parametrize("inside", [False, True], ids=["on-node", "in-pod"])
def test_passthru_has_its_masters_mac(on_lan: Lab, pod: str, inside: bool) -> None:
    """Whatever is asked for, by each way; but tuning's is for both, until DEL."""
    master, where = ("in0", pod) if inside else ("up0", "")
    if inside:
        subprocess.run(f"ip -n {pod} link add in0 type veth peer name in1".split(), check=True)
    own, tuned = ip("link", "show", master, inside=where)[0]["address"], "02:00:00:00:24:05"
    asked = {"runtimeConfig": {"mac": "02:00:00:00:24:03"}, "mac": "02:00:00:00:24:02"}
    body = conf(on_lan, mode="passthru", master=master, linkInContainer=inside, **asked)
    body["args"] = {"cni": {"mac": "02:00:00:00:24:04"}}
    tuning = {"cniVersion": "1.1.0", "name": "n3", "type": "tuning", "mac": tuned}

    def macs() -> set[str]:
        return {link(pod)["address"], ip("link", "show", master, inside=where)[0]["address"]}

    result = on_lan.call("ADD", body, pod, CNI_ARGS="MAC=02:00:00:00:24:01")
    assert (macs(), result["interfaces"][0]["mac"]) == ({own}, own)
    on_lan.call("CHECK", body, pod, before=result)
    on_lan.call("ADD", tuning, pod, before=result)
    assert macs() == {tuned}
    on_lan.call("DEL", tuning, pod)
    assert macs() == {own}
    on_lan.call("DEL", body, pod)
    assert ip("link", "show", master, inside=where)[0]["address"] == own


def test_errors_name_the_key_and_leave_nothing(on_lan: Lab, pod: str) -> None:
    for change, said in (
        ({"mode": "sideways"}, "mode: 'sideways' is none of"),
        ({"mode": "passthru", "mac": "none"}, "mac: 'none' is not a MAC"),
        ({"mtu": 9000}, "mtu: 9000 is more than the 1500 of up0"),
        ({"master": "none0"}, "master: there is no link none0 on the node"),
        ({"master": "up0", "linkInContainer": True}, "master: there is no link up0 in the pod"),
        ({"master": ""}, "master: is missing, and there is no default route on the node"),
        ({"master": "a/b"}, "master: 'a/b' is no interface name"),
    ):
        with pytest.raises(CniFailed, match=said) as failed:
            on_lan.call("ADD", conf(on_lan, **change), pod)
        assert failed.value.code == 7
    assert names(pod) == ["lo"]
    assert not (on_lan.data / "n3" / "10.24.0.2").exists()


def test_an_interface_of_that_name_stays(on_lan: Lab, pod: str) -> None:
    """It is somebody else's, of whatever kind; a failed ADD and its DEL leave it alone."""
    subprocess.run(f"ip link add link up0 name eth0 netns {pod} type macvlan".split(), check=True)
    index = link(pod)["ifindex"]
    with pytest.raises(CniFailed, match="interface eth0 exists already"):
        on_lan.call("ADD", conf(on_lan), pod)
    assert names(pod) == ["lo", "eth0"] and link(pod)["ifindex"] == index


def test_gc_removes_what_is_valid_no_more(on_lan: Lab, pod: str, other_pod: str) -> None:
    on_lan.call("ADD", conf(on_lan), pod)
    on_lan.call("ADD", conf(on_lan), other_pod)
    keep = [{"containerID": other_pod, "ifname": "eth0"}]
    on_lan.call("GC", {**conf(on_lan), "cni.dev/valid-attachments": keep})
    assert (names(pod), names(other_pod)) == (["lo"], ["lo", "eth0"])
    assert not (on_lan.data / "n3" / "10.24.0.2").exists()
    on_lan.call("STATUS", conf(on_lan))


def test_check_sees_another_mode(on_lan: Lab, pod: str) -> None:
    """And a link that is gone."""
    result = on_lan.call("ADD", conf(on_lan), pod)
    command = f"ip -n {pod} link set eth0 type macvlan mode private"
    subprocess.run(command.split(), check=True)
    with pytest.raises(CniFailed, match="link eth0 differs in the pod"):
        on_lan.call("CHECK", conf(on_lan), pod, before=result)
    subprocess.run(f"ip -n {pod} link del eth0".split(), check=True)
    with pytest.raises(CniFailed, match="link eth0 is missing in the pod"):
        on_lan.call("CHECK", conf(on_lan), pod, before=result)
    on_lan.call("DEL", conf(on_lan), pod)

"""``host-device`` and ``tap`` end to end: the real executable and an agent."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
from dropin_lab import CniFailed, Lab, ip

pytestmark = pytest.mark.kernel


def conf(lab: Lab, plugin: str, **more: Any) -> dict[str, Any]:
    """A network with addresses and a default route."""
    ipam = {"type": "host-local", "dataDir": str(lab.data), "subnet": "10.25.0.0/24"}
    ipam["routes"] = [{"dst": "0.0.0.0/0"}]  # type: ignore[assignment]
    return {"cniVersion": "1.0.0", "name": "n4", "type": plugin, "ipam": ipam, **more}


def run(command: str) -> None:
    subprocess.run(command.split(), check=True)


def link(pod: str) -> dict[str, Any]:
    """A pod's eth0, in detail."""
    found: dict[str, Any] = ip("-d", "link", "show", "eth0", inside=pod)[0]
    return found


def names(pod: str = "") -> set[str]:
    return {one["ifname"] for one in ip("link", inside=pod)}


@pytest.fixture
def served(lab: Lab) -> Lab:
    """A node with an agent, and a link dev0 whose alias somebody has set."""
    run("ip link add dev0 type veth peer name dev1")
    run("ip link set dev0 up alias mine")
    lab.start()
    return lab


def test_a_device_goes_and_comes_back(served: Lab, pod: str) -> None:
    """Under its old name and alias, by DEL with nothing but the names."""
    (mac,) = (one["address"] for one in ip("link", "show", "dev0"))
    body = conf(served, "host-device", device="dev0")
    result = served.call("ADD", body, pod)
    assert result["interfaces"] == [{"name": "eth0", "mac": mac, "sandbox": f"/run/netns/{pod}"}]
    assert (result["ips"][0]["address"], result["ips"][0]["interface"]) == ("10.25.0.2/24", 0)
    assert "dev0" not in names() and "UP" in link(pod)["flags"] and link(pod)["ifalias"] == "dev0"
    assert ip("route", "show", "default", inside=pod)[0]["gateway"] == "10.25.0.1"
    served.call("CHECK", body, pod, before=result)
    served.call("DEL", body, pod, namespace="")
    assert names(pod) == {"lo"}
    assert ip("link", "show", "dev0")[0]["ifalias"] == "mine"
    served.call("DEL", body, pod)


def test_a_device_by_its_address(served: Lab, pod: str) -> None:
    """Without addresses of its own, and although pod and node have links called alike."""
    (mac,) = (one["address"] for one in ip("link", "show", "dev0"))
    run("ip link add eth0 type veth peer name eth1")
    run(f"ip -n {pod} link add dev0 type veth peer name dev2")
    body = {"cniVersion": "1.0.0", "name": "n4", "type": "host-device", "hwaddr": mac.upper()}
    result = served.call("ADD", body, pod)
    served.call("CHECK", body, pod, before=result)
    served.call("DEL", body, pod)
    assert {"dev0", "eth0"} <= names() and names(pod) == {"lo", "dev0", "dev2"}


def test_a_device_whose_name_is_taken_stays_with_the_pod(served: Lab, pod: str) -> None:
    """Until there is room for it again."""
    body = conf(served, "host-device", device="dev0")
    served.call("ADD", body, pod)
    run("ip link add dev0 type veth peer name dev3")
    with pytest.raises(CniFailed, match="another dev0"):
        served.call("DEL", body, pod)
    assert link(pod)["ifalias"] == "dev0"
    run("ip link del dev0")
    served.call("DEL", body, pod)
    assert "dev0" in names() and names(pod) == {"lo"}


def test_devices_that_are_not_there(served: Lab, pod: str) -> None:
    for change, said in (
        ({}, "device: is missing"),
        ({"device": "none0"}, "there is no link none0 on the node"),
        ({"hwaddr": "02:00:00:00:00:99"}, "hwaddr: no link"),
        ({"kernelpath": "/etc"}, "kernelpath: "),
        ({"pciBusID": "0000:00:99.0"}, "pciBusID: there is no device"),
        ({"runtimeConfig": {"deviceID": "0000:00:99.0"}}, "deviceID: there is no device"),
    ):
        with pytest.raises(CniFailed, match=said) as failed:
            served.call("ADD", conf(served, "host-device", **change), pod)
        assert failed.value.code == 7
    assert names(pod) == {"lo"} and "dev0" in names()


def test_a_hardware_address_of_any_length(served: Lab, pod: str) -> None:
    """InfiniBand's has 20 octets; none of this node's is like that."""
    for octets, said in ((20, "no link of the node has the address 80"), (7, "of 6, 8 or 20 octets")):
        address = ":".join(["80", *["0a"] * (octets - 1)])
        with pytest.raises(CniFailed, match=f"hwaddr: .*{said}") as failed:
            served.call("ADD", conf(served, "host-device", hwaddr=address), pod)
        assert failed.value.code == 7


@pytest.mark.parametrize(
    ("plugin", "probe", "more"),
    [
        ("dummy", "probe0 type dummy", {}),
        ("vlan", "link dev0 name probe0 type vlan id 9", {"master": "dev0", "vlanId": 7}),
        ("ipvlan", "link dev0 name probe0 type ipvlan", {"master": "dev0"}),
    ],
)
def test_a_kernel_that_makes_no_such_links(
    served: Lab, pod: str, plugin: str, probe: str, more: dict[str, Any]
) -> None:
    """Is named, and nothing is left."""
    if subprocess.run(["ip", "link", "add", *probe.split()], capture_output=True).returncode == 0:
        pytest.skip(f"this kernel makes {plugin} links: they are tested in the guest")
    with pytest.raises(CniFailed, match=f"this kernel makes no {plugin} links.*load the kernel's") as failed:
        served.call("ADD", conf(served, plugin, **more), pod)
    assert failed.value.code == 7
    assert names(pod) == {"lo"}
    assert not [one for one in (served.data / "n4").iterdir() if one.name[0].isdigit()]


def test_a_tap(served: Lab, pod: str) -> None:
    """With owner, group, queues, MAC, MTU, and in a bridge of the pod's."""
    run(f"ip -n {pod} link add pb0 type bridge")
    more = {"multiQueue": True, "owner": 54321, "group": 54322, "mtu": 1400, "bridge": "pb0"}
    body = conf(served, "tap", mac="02:00:00:00:25:01", **more)
    result = served.call("ADD", body, pod)
    found = link(pod)
    data = found["linkinfo"]["info_data"]
    assert (data["type"], data["user"], data["group"]) == ("tap", 54321, 54322)
    assert (data["multi_queue"], found["mtu"], found["master"]) == (True, 1400, "pb0")
    assert result["interfaces"][0]["mac"] == found["address"] == "02:00:00:00:25:01"
    served.call("CHECK", body, pod, before=result)
    served.call("DEL", body, pod, namespace="")
    assert names(pod) == {"lo", "pb0"}
    plain = {"cniVersion": "1.0.0", "name": "n4", "type": "tap"}
    result = served.call("ADD", plain, pod)
    served.call("CHECK", plain, pod, before=result)
    served.call("DEL", plain, pod)
    with pytest.raises(CniFailed, match="bridge: there is no bridge none0"):
        served.call("ADD", {**plain, "bridge": "none0"}, pod)
    assert names(pod) == {"lo", "pb0"}


def test_a_name_with_a_percent_sign_is_refused(served: Lab, pod: str) -> None:
    """The kernel takes it for a pattern, and would leave the device in the pod under another name."""
    for ifname in ("%s", "eth%d"):
        with pytest.raises(CniFailed, match=r"CNI_IFNAME.* holds a %") as failed:
            served.call("ADD", conf(served, "host-device", device="dev0"), pod, ifname=ifname)
        assert failed.value.code == 4
    assert names(pod) == {"lo"} and "dev0" in names()


def test_uninstall_brings_a_device_back(served: Lab, pod: str) -> None:
    """Nothing of Podway's stands on the node for it."""
    served.call("ADD", conf(served, "host-device", device="dev0"), pod)
    served.stop()
    served.podway("uninstall")
    assert names(pod) == {"lo"} and "dev0" in names()

"""Names and paths of a configuration reach no shell, no other path and no text of nft: on a real kernel."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from dropin_lab import CniFailed, Lab, buried, ip, wait_for

pytestmark = pytest.mark.kernel

#: what the kernel takes as a link's name, and a shell, nft or a path would take for something else
ODD = (
    '";}#',
    'a"b;c',
    "$(id>M)",
    "`id>M`",
    "x*",
    "@guarded",
    "'x'",
    "-rf",
    "\\n",
    "{};",
    "é",
    "...",
    "a,b=c",
)
#: what it makes another name of, or refuses
NEVER = ("x%d", "%", ".", "..", "a/b", "../x", "a b", "a:b", "x" * 16)
DEFAULT = [{"dst": "0.0.0.0/0"}]


def conf(kind: str, **keys: Any) -> dict[str, Any]:
    return {"cniVersion": "1.0.0", "name": "net", "type": kind, **keys}


def ipam(lab: Lab, number: int = 88) -> dict[str, Any]:
    ranges = [[{"subnet": f"10.{number}.0.0/16"}]]
    return {"type": "host-local", "dataDir": str(lab.data), "ranges": ranges}


def ruleset() -> str:
    """nft's, but for counters and handles."""
    shown = subprocess.run(["nft", "-s", "list", "ruleset"], check=True, capture_output=True, text=True)
    return shown.stdout


def names(inside: str = "") -> set[str]:
    return {one["ifname"] for one in ip("link", inside=inside)}


def run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


def test_bridges_of_any_name(lab: Lab, pod: str) -> None:
    """With every plugin of a chain that names it in a set, a rule, a sysctl or a queue."""
    lab.start()
    before, there = ruleset(), set(os.listdir(lab.directory))
    for number, name in enumerate(ODD, 100):  # a bridge stays, and so does its subnet
        _comes_and_goes(lab, pod, name, number)
        wait_for(lambda: buried(lab), "all of the pod is gone")
        assert ruleset() == before, name
    assert set(os.listdir(lab.directory)) - there <= {"networks"} and not os.path.exists("M")


def _comes_and_goes(lab: Lab, pod: str, name: str, number: int) -> None:
    chain = [
        conf(
            "bridge",
            bridge=name,
            isDefaultGateway=True,
            ipMasq=True,
            macspoofchk=True,
            ipam=ipam(lab, number),
        ),
        conf("portmap", snat=True, runtimeConfig={"portMappings": [{"hostPort": 8080, "containerPort": 80}]}),
        conf("bandwidth", ingressRate=10**7, ingressBurst=10**6),
        conf("firewall", ingressPolicy="same-bridge"),
        conf("tuning", sysctl={"net.ipv4.conf.IFNAME.arp_notify": "1"}),
    ]
    result: Any = None
    for one in chain:
        result = lab.call("ADD", one, pod, before=result, ifname=name)
    assert name in names() and name in names(pod)
    run("ip", "netns", "exec", pod, "ping", "-c1", "-W10", f"10.{number}.0.1")
    for one in chain:
        lab.call("CHECK", one, pod, before=result, ifname=name)
    assert lab.podway("plan") == "nothing to change\n"
    for one in reversed(chain):
        lab.call("DEL", one, pod, before=result, ifname=name)


def test_links_of_the_node_of_any_name(lab: Lab, pod: str) -> None:
    """A master of macvlan, a device of host-device, which comes back under its name, a tap's bridge."""
    lab.start()
    for name in ODD:
        run("ip", "link", "add", "name", name, "type", "veth", "peer", "name", "odd9")
        run("ip", "link", "set", "dev", name, "up")
        for one in (conf("macvlan", master=name, ipam=ipam(lab)), conf("host-device", device=name)):
            result = lab.call("ADD", one, pod)
            assert "eth0" in names(pod)
            lab.call("CHECK", one, pod, before=result)
            lab.call("DEL", one, pod, before=result)
            assert names(pod) == {"lo"} and name in names()
        run("ip", "-n", pod, "link", "add", "name", name, "type", "bridge")
        tap = conf("tap", bridge=name)
        result = lab.call("ADD", tap, pod, ifname="tap0")
        assert ip("link", "show", "tap0", inside=pod)[0]["master"] == name
        lab.call("DEL", tap, pod, before=result, ifname="tap0")
        run("ip", "-n", pod, "link", "del", "dev", name)
        run("ip", "link", "del", "dev", name)
    assert not os.path.exists("M")


@pytest.mark.parametrize(
    "body",
    [
        {"type": "bridge", "bridge": "NAME"},
        {"type": "macvlan", "master": "NAME"},
        {"type": "ipvlan", "master": "NAME"},
        {"type": "vlan", "master": "NAME", "vlanId": 5},
        {"type": "host-device", "device": "NAME"},
        {"type": "tap", "bridge": "NAME"},
        {"type": "vrf", "vrfname": "NAME"},
    ],
    ids=lambda body: body["type"],
)
def test_what_can_be_no_links_name_is_refused(lab: Lab, pod: str, body: dict[str, Any]) -> None:
    """Before anything is made: the kernel would take x%d for a pattern, and make a link of another name."""
    lab.start()
    there = names()
    interface = {"name": "eth0", "sandbox": f"/run/netns/{pod}"}
    before = {"cniVersion": "1.0.0", "interfaces": [interface], "ips": []} if body["type"] == "vrf" else None
    (key,) = (key for key, value in body.items() if value == "NAME")
    for name in NEVER:
        with pytest.raises(CniFailed, match=key) as refused:
            lab.call("ADD", conf(body["type"]) | {"ipam": ipam(lab)} | body | {key: name}, pod, before=before)
        assert refused.value.code == 7
        with pytest.raises(CniFailed, match="CNI_IFNAME") as refused:
            lab.call("ADD", conf(body["type"]), pod, ifname=name)
        assert refused.value.code == 4
    assert names() == there and names(pod) == {"lo"}


def test_device_paths_stay_below_sys(lab: Lab, pod: str) -> None:
    """And name a device: neither by another's way nor by what is no number."""
    lab.start()
    for key, value in (
        ("kernelpath", "/sys/devices/../class/net/lo"),
        ("kernelpath", "/etc"),
        ("kernelpath", "sys/devices/x"),
        ("kernelpath", "/sys/devices/virtual/net/lo/../lo"),
        ("pciBusID", "../../../devices/virtual/net/lo"),
        ("pciBusID", ".."),
        ("pciBusID", "0000:00:01.0/../x"),
        ("deviceID", "../pci/devices"),
        ("deviceID", "/etc"),
    ):
        keys = {"runtimeConfig": {"deviceID": value}} if key == "deviceID" else {key: value}
        with pytest.raises(CniFailed, match=f"{key}.*(no device's number|not a path below)") as refused:
            lab.call("ADD", conf("host-device", **keys), pod)
        assert refused.value.code == 7


def test_a_network_or_container_is_no_path(lab: Lab, pod: str) -> None:
    """host-local's directory and tuning's file are named by them."""
    lab.start()
    there = set(os.listdir(lab.directory))
    bridge = conf("bridge", bridge="cni0", ipam=ipam(lab))
    tuning = conf("tuning", mac="02:00:00:00:00:09", dataDir=str(lab.data))
    for name in ("..", "../x", "/etc/passwd", "a/b", ".hidden", "a\nb", "-x", ""):
        for body, container in ((bridge | {"name": name}, pod), (bridge, name), (tuning, name)):
            for command in ("ADD", "DEL"):
                with pytest.raises(CniFailed) as refused:
                    lab.call(command, body, container, namespace=f"/run/netns/{pod}")
                assert refused.value.code in (4, 7)
    assert set(os.listdir(lab.directory)) == there


@pytest.mark.parametrize("kind", ["../sh", "/bin/sh", "sh -c id", "$(id)", "."])
def test_an_ipam_plugin_is_a_name_on_cni_path(lab: Lab, pod: str, kind: str, tmp_path: Path) -> None:
    """Nothing outside of CNI_PATH is executed."""
    outside = tmp_path / "sh"
    outside.write_text(f"#!/bin/sh\ntouch {tmp_path}/executed\n")
    outside.chmod(0o755)
    lab.start()
    for command in ("ADD", "CHECK", "DEL", "GC", "STATUS"):
        body = conf("macvlan", master="lo", ipam={"type": kind}) | {"cniVersion": "1.1.0"}
        try:
            lab.call(command, body, pod, before={"cniVersion": "1.1.0"})
        except CniFailed as refused:
            assert re.search(r"ipam|master|prevResult", refused.msg), refused
    assert not (tmp_path / "executed").exists()

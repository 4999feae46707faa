"""Drop-in plugins whose links the guest's kernel makes."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
from dropin_engine import Here
from dropin_lab import CniFailed, ip

pytestmark = pytest.mark.guest


def conf(here: Here, plugin: str, **more: Any) -> dict[str, Any]:
    """A dual stack network."""
    ranges = [[{"subnet": "10.26.0.0/24"}], [{"subnet": "fd00:26::/64"}]]
    ipam = {"type": "host-local", "dataDir": str(here.data), "ranges": ranges}
    return {"cniVersion": "1.0.0", "name": "n6", "type": plugin, "ipam": ipam, **more}


def life(here: Here, pod: str, body: dict[str, Any], kind: str) -> dict[str, Any]:
    """ADD, CHECK and DEL of one pod; how its link was."""
    result = here.call("ADD", body, pod)
    (found,) = ip("-d", "link", "show", "eth0", inside=pod)
    assert (found["linkinfo"]["info_kind"], "UP" in found["flags"]) == (kind, True)
    assert result["interfaces"] == [
        {"name": "eth0", "mac": found["address"], "sandbox": f"/run/netns/{pod}"},
    ]
    given = [one["local"] for one in ip("addr", "show", "eth0", inside=pod)[0]["addr_info"]]
    assert {one["address"].partition("/")[0] for one in result["ips"]} <= set(given)
    here.call("CHECK", body, pod, before=result)
    here.call("DEL", body, pod)
    assert "eth0" not in [one["ifname"] for one in ip("link", inside=pod)]
    here.engine.pieces.burial.complete()
    assert not [one.name for one in (here.data / "n6").iterdir() if one.name[0].isdigit()]
    return dict(found)


def test_dummy(here: Here, pod: str) -> None:
    life(here, pod, conf(here, "dummy"), "dummy")


def lower(name: str, *inside: str) -> None:
    """A dummy to stand on, which is up."""
    subprocess.run(["ip", *inside, "link", "add", name, "type", "dummy"], check=True)
    subprocess.run(["ip", *inside, "link", "set", name, "up"], check=True)


def test_vlan(here: Here, pod: str) -> None:
    """On the node's link, on the pod's own; what is wrong is named."""
    lower("up0")
    found = life(here, pod, conf(here, "vlan", master="up0", vlanId=7, mtu=1400), "vlan")
    assert (found["linkinfo"]["info_data"]["id"], found["mtu"]) == (7, 1400)
    lower("in0", "-n", pod)
    found = life(here, pod, conf(here, "vlan", master="in0", vlanId=8, linkInContainer=True), "vlan")
    assert found["link"] == "in0"
    for change, said in (
        ({}, "master: is missing"),
        ({"master": "up0", "vlanId": 4095}, "vlanId: "),
        ({"master": "none0", "vlanId": 7}, "master: there is no link none0 on the node"),
        ({"master": "up0", "vlanId": 7, "mtu": 9000}, "mtu: 9000 is more than the 1500 of up0"),
    ):
        with pytest.raises(CniFailed, match=said) as failed:
            here.call("ADD", conf(here, "vlan", **change), pod)
        assert failed.value.code == 7


def test_ipvlan(here: Here, pod: str) -> None:
    """In each mode; after another plugin on its interface and with its addresses."""
    lower("up0")
    for mode in ("l2", "l3", "l3s"):
        found = life(here, pod, conf(here, "ipvlan", master="up0", mode=mode), "ipvlan")
        assert found["linkinfo"]["info_data"]["mode"] == mode
    assert life(here, pod, conf(here, "ipvlan", master="up0", mtu=1600), "ipvlan")["mtu"] == 1600
    before = {
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "up0"}],
        "ips": [{"address": "10.27.0.5/24", "interface": 0}],
    }
    body = {"cniVersion": "1.0.0", "name": "n6", "type": "ipvlan"}
    result = here.call("ADD", body, pod, before=before)
    assert [one["address"] for one in result["ips"]] == ["10.27.0.5/24"]
    assert ip("addr", "show", "eth0", inside=pod)[0]["addr_info"][0]["local"] == "10.27.0.5"
    here.call("CHECK", body, pod, before=result)
    here.call("DEL", body, pod)
    with pytest.raises(CniFailed, match="is missing; this plugin needs addresses"):
        here.call("ADD", {**body, "master": "up0"}, pod)

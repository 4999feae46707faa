"""Drop-in ``vrf`` on a kernel that has it, after our bridge and ptp: routes, packets, the device's life."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
from dropin_engine import Here
from dropin_lab import CniFailed, ip

pytestmark = pytest.mark.guest


def main(here: Here, number: int = 1, kind: str = "bridge") -> dict[str, Any]:
    """A dual stack network with default routes."""
    ranges = [[{"subnet": f"10.7{number}.0.0/24"}], [{"subnet": f"fd00:7{number}::/64"}]]
    routes = [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
    ipam = {"type": "host-local", "dataDir": str(here.data), "ranges": ranges, "routes": routes}
    bridge = {"bridge": f"br{number}", "isGateway": True} if kind == "bridge" else {}
    return {"cniVersion": "1.1.0", "name": f"v{number}", "type": kind, "ipam": ipam, **bridge}


def vrf(number: int = 1, **more: Any) -> dict[str, Any]:
    return {"cniVersion": "1.1.0", "name": f"v{number}", "type": "vrf", "vrfname": "blue", **more}


def routes(pod: str, *of: str) -> set[tuple[str, str]]:
    """(destination, gateway) of both families, link-local ones left out."""
    found = [one for family in ("-4", "-6") for one in ip(family, "route", "show", *of, inside=pod)]
    dull = ("fe80:", "ff00:", "multicast")
    return {
        (one["dst"], one.get("gateway", ""))
        for one in found
        if one.get("type", "unicast") == "unicast" and not one["dst"].startswith(dull)
    }


def reaches(pod: str, *targets: str) -> None:
    for target in targets:
        command = ["ip", "netns", "exec", pod, "ping", "-I", "blue", "-c1", "-W20", target]
        subprocess.run(command, check=True, capture_output=True)


@pytest.mark.parametrize("kind", ["bridge", "ptp"])
def test_an_interface_in_a_vrf(here: Here, pod: str, kind: str) -> None:
    """Its addresses and routes come along, CHECK of both plugins holds, and DEL puts everything back."""
    conf = main(here, kind=kind)
    result = here.call("ADD", conf, pod)
    before, inside = routes(pod), ip("addr", "show", "eth0", inside=pod)[0]["addr_info"]
    assert here.call("ADD", vrf(), pod, before=result) == result
    (device,) = ip("-d", "link", "show", "blue", inside=pod)
    assert device["linkinfo"]["info_data"]["table"] == 1 and "UP" in device["flags"]
    assert routes(pod) == set() and routes(pod, "table", "1") == before
    after = ip("addr", "show", "eth0", inside=pod)[0]["addr_info"]
    assert {one["local"] for one in after} >= {one["local"] for one in inside if one["scope"] == "global"}
    reaches(pod, "10.71.0.1", "fd00:71::1")
    for one in (conf, vrf()):
        here.call("CHECK", one, pod, before=result)
    subprocess.run(["ip", "-n", pod, "link", "set", "eth0", "nomaster"], check=True)
    with pytest.raises(CniFailed, match="link eth0 differs in the pod"):
        here.call("CHECK", vrf(), pod, before=result)
    here.call("DEL", vrf(), pod, before=result)
    assert not [one for one in ip("link", "show", "type", "vrf", inside=pod) if one]
    here.call("DEL", conf, pod, before=result)


def test_two_interfaces_in_one_vrf(here: Here, pod: str) -> None:
    """The second joins, the last to go takes the device along; routes are where they were."""
    found = [here.call("ADD", main(here, n), pod, ifname=f"eth{n}") for n in (1, 2)]
    before = routes(pod)
    for number, result in zip((1, 2), found, strict=True):
        conf = vrf(number, table=77)
        here.call("ADD", conf, pod, ifname=f"eth{number}", before=result)
    assert {one["ifname"] for one in ip("link", "show", "master", "blue", inside=pod)} == {"eth1", "eth2"}
    with pytest.raises(CniFailed, match="table: blue stands already, with the table 77"):
        here.call("ADD", {**vrf(3), "table": 78}, pod, ifname="lo", before=found[0])
    with pytest.raises(CniFailed, match="eth1 is in blue already"):
        here.call("ADD", vrf(3), pod, ifname="eth1", before=found[0])
    here.call("DEL", vrf(1, table=77), pod, ifname="eth1")
    assert [one["ifname"] for one in ip("link", "show", "master", "blue", inside=pod)] == ["eth2"]
    here.call("DEL", vrf(2, table=77), pod, ifname="eth2")
    assert not [one for one in ip("link", "show", "type", "vrf", inside=pod) if one]
    assert routes(pod) == before
    for source, target in (("eth1", "10.71.0.1"), ("eth2", "fd00:72::1")):
        command = ["ip", "netns", "exec", pod, "ping", "-I", source, "-c1", "-W20", target]
        subprocess.run(command, check=True, capture_output=True)


def test_a_device_of_the_pods_own_stays(here: Here, pod: str) -> None:
    """One that was there before isn't removed; one that is no VRF is code 7."""
    result = here.call("ADD", main(here), pod)
    subprocess.run(["ip", "-n", pod, "link", "add", "blue", "type", "vrf", "table", "9"], check=True)
    subprocess.run(["ip", "-n", pod, "link", "set", "blue", "up"], check=True)
    here.call("ADD", vrf(), pod, before=result)
    assert ("10.71.0.0/24", "") in routes(pod, "table", "9")
    here.call("DEL", vrf(), pod)
    assert [one["ifname"] for one in ip("link", "show", "type", "vrf", inside=pod)] == ["blue"]
    with pytest.raises(CniFailed, match="vrfname: eth0 is a veth link, not a VRF") as failed:
        here.call("ADD", vrf(vrfname="eth0"), pod, before=result)
    assert failed.value.code == 7

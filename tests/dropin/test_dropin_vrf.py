"""``vrf`` without a kernel that has it: what is asked for, what is planned, what a kernel without says."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
from dropin_lab import CniFailed, Lab, ip

from podway.model.dropin import InVrf, Piece
from podway.model.objects import Address, AnyObject, Link, Route, VrfOptions
from podway.plan.dropin import vrf


def conf(**more: Any) -> dict[str, Any]:
    return {"cniVersion": "1.0.0", "name": "v1", "type": "vrf", **more}


def settled(want: InVrf, *others: AnyObject) -> InVrf:
    """In a pod with an interface of both families."""
    inside = (
        Link(name="eth0", kind="veth"),
        Address(link="eth0", address="10.1.0.2/24"),
        Address(link="eth0", address="fd00::2/64", nodad=True, tentative=True),
        Address(link="eth0", address="fe80::2/64"),
        Route(dst="10.1.0.0/24", dev="eth0", protocol=2, scope="link", src="10.1.0.2"),
        Route(dst="0.0.0.0/0", dev="eth0", via="10.1.0.1", protocol=3),
        Route(dst="0.0.0.0/0", dev="eth1", via="10.2.0.1", protocol=3, metric=9),
        *others,
    )
    return vrf.settled(want, "eth0", {one.key: one for one in inside})


def test_what_comes_along() -> None:
    """What the kernel doesn't move by itself: IPv6 addresses and other routes of this interface alone."""
    found = settled(InVrf(name="blue"), Link(name="red", kind="vrf", vrf=VrfOptions(table=1)))
    assert (found.table, found.made, found.kind) == (2, True, "veth")
    assert found.addresses == (Address(link="eth0", address="fd00::2/64", nodad=True),)
    assert found.routes == (Route(dst="0.0.0.0/0", dev="eth0", via="10.1.0.1", protocol=3, table=2),)
    piece = Piece(container="c1", ifname="eth0", configuration="v1", want=found)
    device, mine, *_ = vrf.in_pod(piece, found)
    assert isinstance(device, Link) and (device.name, device.vrf) == ("blue", VrfOptions(table=2))
    assert isinstance(mine, Link) and (mine.name, mine.master) == ("eth0", "blue")


def test_a_device_that_stands() -> None:
    """Is joined, with its table."""
    found = settled(InVrf(name="blue"), Link(name="blue", kind="vrf", vrf=VrfOptions(table=7)))
    assert (found.table, found.made) == (7, False)


def test_one_of_the_reference_plugin_is_recognized() -> None:
    """It leaves the VRF with its IPv6 addresses and routes; the last takes the device along."""
    eth0, eth1 = (Link(name=one, kind="veth", master="blue") for one in ("eth0", "eth1"))
    inside: tuple[AnyObject, ...] = (
        Link(name="blue", kind="vrf", vrf=VrfOptions(table=7)),
        eth0,
        eth1,
        Address(link="eth0", address="10.1.0.2/24"),
        Address(link="eth0", address="fd00::2/64"),
        Route(dst="10.1.0.0/24", dev="eth0", protocol=2, scope="link", src="10.1.0.2", table=7),
        Route(dst="0.0.0.0/0", dev="eth0", via="10.1.0.1", protocol=3, table=7),
    )
    actual = {one.key: one for one in inside}
    want = vrf.recognized("blue", "eth0", actual)
    assert want is not None and vrf.recognized("red", "eth0", actual) is None
    piece = Piece(container="c1", ifname="eth0", configuration="v1", want=want)
    objects, gone = vrf.as_found(piece, want, actual, foreign=True)
    assert objects == (
        Link(name="eth0", kind="veth", up=None, master=""),
        Address(link="eth0", address="fd00::2/64"),
        Route(dst="0.0.0.0/0", dev="eth0", via="10.1.0.1", protocol=3),
    )
    assert gone == ()
    del actual[eth1.key]
    assert vrf.as_found(piece, want, actual, foreign=True)[1] == (inside[0],)
    assert vrf.as_found(piece, want, actual)[1] == ()


@pytest.mark.kernel
def test_errors_name_the_key_or_the_kernels_lack(lab: Lab, pod: str) -> None:
    """And leave the interface as it was."""
    subprocess.run(["ip", "-n", pod, "link", "add", "eth0", "type", "veth", "peer", "far"], check=True)
    for command in ("addr add 10.1.0.2/24 dev eth0", "link set eth0 up", "route add default via 10.1.0.1"):
        subprocess.run(["ip", "-n", pod, *command.split()], check=True)
    result = {"cniVersion": "1.0.0", "interfaces": [{"name": "eth0", "sandbox": f"/run/netns/{pod}"}]}
    routes = ip("route", "show", "table", "all", inside=pod)
    for given, said in (({}, "vrfname: is missing"), ({"vrfname": "a/b"}, "vrfname: 'a/b'")):
        with pytest.raises(CniFailed, match=said):
            lab.call("ADD", conf(**given), pod, before=result)
    with pytest.raises(CniFailed, match="prevResult: is missing"):
        lab.call("ADD", conf(vrfname="blue"), pod)
    try:
        lab.call("ADD", conf(vrfname="blue"), pod, before=result)
        lab.call("DEL", conf(vrfname="blue"), pod)
    except CniFailed as failed:
        assert failed.code == 7 and "this kernel makes no vrf links" in failed.msg, failed
    assert ip("route", "show", "table", "all", inside=pod) == routes
    assert {one["ifname"] for one in ip("link", inside=pod)} == {"lo", "eth0", "far"}
    assert "master" not in ip("link", "show", "eth0", inside=pod)[0]

"""``sbr`` after ours and after the reference plugins' bridge: rules, tables and packets' ways."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
from bench.reference import DEBIAN
from dropin_lab import CniFailed, Lab, ip

pytestmark = pytest.mark.kernel


def main(lab: Lab, number: int = 1, **more: Any) -> dict[str, Any]:
    """A dual stack bridge network with default routes, the pod's ``number``-th."""
    ranges = [[{"subnet": f"10.7{number}.0.0/24"}], [{"subnet": f"fd00:7{number}::/64"}]]
    routes = [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}] if number == 1 else [{"dst": "10.99.0.0/16"}]
    ipam = {"type": "host-local", "dataDir": str(lab.data), "ranges": ranges, "routes": routes}
    bridge = {"type": "bridge", "bridge": f"br{number}", "isGateway": True, "ipam": ipam}
    return {"cniVersion": "1.1.0", "name": f"s{number}", **bridge, **more}


def sbr(number: int = 1, **more: Any) -> dict[str, Any]:
    return {"cniVersion": "1.1.0", "name": f"s{number}", "type": "sbr", **more}


def rules(pod: str, family: str = "-4") -> list[tuple[str, str]]:
    """(source, table) of the pod's own rules, in the order of their look-up."""
    found = ip(family, "rule", "show", inside=pod)
    return [(one["src"], one["table"]) for one in found if one["src"] != "all"]


def way(pod: str, source: str, target: str) -> str:
    """The interface that a packet leaves by."""
    return str(ip("route", "get", target, "from", source, inside=pod)[0]["dev"])


def test_two_interfaces(node: Lab, pod: str) -> None:
    """Answers go by the interface that was asked; DEL puts the routes back."""
    first = node.call("ADD", main(node), pod)
    assert node.call("ADD", sbr(), pod, before=first) == first
    assert rules(pod) == [("10.71.0.2", "100")] and rules(pod, "-6") == [("fd00:71::2", "101")]
    second = node.call("ADD", main(node, 2), pod, ifname="eth1")
    node.call("ADD", sbr(2), pod, ifname="eth1", before=second)
    assert rules(pod) == [("10.72.0.2", "102"), ("10.71.0.2", "100")]
    for source, link in (("10.71.0.2", "eth0"), ("10.72.0.2", "eth1")):
        assert way(pod, source, "198.51.100.7") == link
        for target in (source[:-1] + "1",):
            command = ["ip", "netns", "exec", pod, "ping", "-c1", "-W10", "-I", source, target]
            subprocess.run(command, check=True, capture_output=True)
    for source, link in (("fd00:71::2", "eth0"), ("fd00:72::2", "eth1")):
        assert way(pod, source, "2001:db8::7") == link
    assert ip("route", inside=pod) == []
    for conf, ifname, result in ((main(node), "eth0", first), (main(node, 2), "eth1", second)):
        node.call("CHECK", conf, pod, ifname=ifname, before=result)
    node.call("CHECK", sbr(), pod, before=first)
    node.call("DEL", sbr(2), pod, ifname="eth1", before=second)
    assert rules(pod) == [("10.71.0.2", "100")]
    gone = ip("route", "show", "table", "all", inside=pod)
    assert [one["dst"] for one in gone if one.get("table") in ("102", "103")] == []
    there = {(one["dst"], one.get("gateway")) for one in ip("route", inside=pod)}
    assert there == {("10.72.0.0/24", None), ("10.99.0.0/16", "10.72.0.1")}
    node.call("DEL", sbr(), pod, namespace="")
    node.call("DEL", sbr(), pod, namespace="")
    assert rules(pod) == [] and rules(pod, "-6") == []


def test_a_rule_that_went_is_found(node: Lab, pod: str) -> None:
    """CHECK names it."""
    result = node.call("ADD", main(node), pod)
    node.call("ADD", sbr(), pod, before=result)
    subprocess.run(["ip", "-n", pod, "rule", "del", "from", "10.71.0.2"], check=True)
    with pytest.raises(CniFailed, match=r"rule 4 .*10.71.0.2/32 0 is missing in the pod"):
        node.call("CHECK", sbr(), pod, before=result)


def test_a_table_of_ones_own(node: Lab, pod: str) -> None:
    """``table``: rules alone, of all addresses; the routes are another's."""
    result = node.call("ADD", main(node), pod)
    node.call("ADD", sbr(table=300), pod, before=result)
    assert rules(pod) == [("10.71.0.2", "300")] and rules(pod, "-6") == [("fd00:71::2", "300")]
    assert "default" in {one["dst"] for one in ip("route", inside=pod)}
    node.call("DEL", sbr(table=300), pod, before=result)
    assert rules(pod) == []


def test_tables_in_use_are_left(node: Lab, pod: str) -> None:
    """By a rule, or by a route without one."""
    result = node.call("ADD", main(node), pod)
    subprocess.run(["ip", "-n", pod, "rule", "add", "from", "1.2.3.4", "table", "100"], check=True)
    subprocess.run(["ip", "-n", pod, "route", "add", "blackhole", "1.2.3.0/24", "table", "101"], check=True)
    node.call("ADD", sbr(), pod, before=result)
    assert rules(pod) == [("10.71.0.2", "102"), ("1.2.3.4", "100")]


def test_after_the_reference_bridge(lab: Lab, pod: str) -> None:
    """And a failed ADD leaves the routes as they were."""
    lab.path = f"{lab.bin}:{DEBIAN}"
    lab.start()
    (lab.bin / "bridge").unlink()
    conf = main(lab, cniVersion="1.0.0")
    result = lab.call("ADD", conf, pod)
    before = ip("route", inside=pod)
    subprocess.run(["ip", "-n", pod, "addr", "flush", "dev", "eth0", "to", "10.71.0.2"], check=True)
    with pytest.raises(CniFailed):
        lab.call("ADD", sbr(cniVersion="1.0.0"), pod, before=result)
    assert rules(pod) == [] and rules(pod, "-6") == []
    subprocess.run(["ip", "-n", pod, "addr", "add", "10.71.0.2/24", "dev", "eth0"], check=True)
    subprocess.run(["ip", "-n", pod, "route", "add", "default", "via", "10.71.0.1"], check=True)
    assert {one["dst"] for one in ip("route", inside=pod)} == {one["dst"] for one in before}
    lab.call("ADD", sbr(cniVersion="1.0.0"), pod, before=result)
    assert way(pod, "10.71.0.2", "198.51.100.7") == "eth0"
    lab.call("CHECK", sbr(cniVersion="1.0.0"), pod, before=result)


def test_errors_name_the_key(node: Lab, pod: str) -> None:
    """And leave nothing."""
    result = node.call("ADD", main(node), pod)
    for conf, before, said in (
        (sbr(), None, "prevResult: is missing"),
        (sbr(), {**result, "ips": []}, "prevResult: has no address of eth0"),
        (sbr(table=0), result, "table: 0 is no routing table"),
        (sbr(table="x"), result, "table: must be a whole number"),
    ):
        with pytest.raises(CniFailed, match=said):
            node.call("ADD", conf, pod, before=before)
    with pytest.raises(CniFailed, match="there is no eth7 in the pod"):
        told = {**result, "interfaces": [{**one, "name": "eth7"} for one in result["interfaces"]]}
        node.call("ADD", sbr(), pod, ifname="eth7", before=told)
    assert rules(pod) == []

"""``ptp`` with ``static`` and host-local, end to end."""

from __future__ import annotations

from typing import Any

import pytest
from dropin_lab import CniFailed, Lab, ip, links, wait_for

pytestmark = pytest.mark.kernel


def conf(lab: Lab, **more: Any) -> dict[str, Any]:
    """A dual stack network without a bridge."""
    ranges = [[{"subnet": "10.23.0.0/24"}], [{"subnet": "fd00:23::/64"}]]
    routes = [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
    ipam = {"type": "host-local", "dataDir": str(lab.data), "ranges": ranges, "routes": routes}
    return {"cniVersion": "1.1.0", "name": "n2", "type": "ptp", "ipMasq": True, "ipam": ipam, **more}


def test_a_pod_comes_and_goes(node: Lab, pod: str) -> None:
    """Result and kernel as the reference plugin leaves them."""
    result = node.call("ADD", conf(node), pod)
    veth, inside = result["interfaces"]
    assert inside["name"] == "eth0" and inside["sandbox"] == f"/run/netns/{pod}"
    assert result["ips"] == [
        {"interface": 1, "address": "10.23.0.2/24", "gateway": "10.23.0.1"},
        {"interface": 1, "address": "fd00:23::2/64", "gateway": "fd00:23::1"},
    ]
    assert result["routes"] == [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
    routes = {(one["dst"], one.get("gateway"), one.get("scope")) for one in ip("route", inside=pod)}
    assert routes == {
        ("default", "10.23.0.1", None),
        ("10.23.0.0/24", "10.23.0.1", None),
        ("10.23.0.1", None, "link"),
    }
    six = {(one["dst"], one.get("gateway")) for one in ip("-6", "route", inside=pod)}
    assert six >= {("default", "fd00:23::1"), ("fd00:23::/64", "fd00:23::1"), ("fd00:23::1", None)}
    assert ("fd00:23::/64", None) not in six
    assert [one["dst"] for one in ip("route", "show", "dev", veth["name"], "scope", "host")] == ["10.23.0.2"]
    addresses = ip("addr", "show", veth["name"])[0]["addr_info"]
    assert {(one["local"], one["prefixlen"]) for one in addresses} >= {("10.23.0.1", 32), ("fd00:23::1", 128)}
    node.call("CHECK", conf(node), pod, before=result)
    node.call("DEL", conf(node), pod, namespace="")
    wait_for(lambda: not links("veth") and not (node.data / "n2" / "10.23.0.2").exists())


def test_pods_reach_each_other_and_the_node(node: Lab, pod: str, other_pod: str) -> None:
    """By the gateway, over both families."""
    import subprocess

    node.call("ADD", conf(node), pod)
    node.call("ADD", conf(node), other_pod)
    for target in ("10.23.0.3", "10.23.0.1", "fd00:23::3", "fd00:23::1"):
        command = ["ip", "netns", "exec", pod, "ping", "-c1", "-W10", target]
        subprocess.run(command, check=True, capture_output=True)


def test_static_addresses_and_those_asked_for(node: Lab, pod: str) -> None:
    """What the runtime asks for replaces what is written down; it needs its prefix length. CNI_ARGS adds
    addresses, and its gateways are for what is asked for."""
    written = {"type": "static", "addresses": [{"address": "10.40.0.5/24", "gateway": "10.40.0.1"}]}
    body = conf(node, ipam={**written, "dns": {"nameservers": ["9.9.9.9"]}})
    result = node.call("ADD", body, pod)
    assert [(one["address"], one["gateway"]) for one in result["ips"]] == [("10.40.0.5/24", "10.40.0.1")]
    assert result["dns"] == {"nameservers": ["9.9.9.9"]}
    node.call("DEL", body, pod)
    arguments = "GATEWAY=10.40.0.3,fd40::1;IP=fd40::9/64"
    result = node.call("ADD", body, pod, CNI_ARGS=arguments, ifname="e1")
    assert [(one["address"], one["gateway"]) for one in result["ips"]] == [
        ("10.40.0.5/24", "10.40.0.1"),
        ("fd40::9/64", "fd40::1"),
    ]
    node.call("DEL", body, pod, ifname="e1")
    asked = {**body, "runtimeConfig": {"ips": ["10.40.0.9/24"]}}
    result = node.call("ADD", asked, pod, CNI_ARGS=arguments, ifname="e2")
    assert [(one["address"], one["gateway"]) for one in result["ips"]] == [("10.40.0.9/24", "10.40.0.3")]


def test_the_order_of_addresses_is_kept(node: Lab, pod: str) -> None:
    """The first is the link's primary one, from which the pod sends."""
    addresses = [{"address": f"10.{n}.0.5/24", "gateway": f"10.{n}.0.1"} for n in (60, 50)]
    node.call("ADD", conf(node, ipam={"type": "static", "addresses": addresses}), pod)
    found = [one["local"] for one in ip("-4", "addr", "show", "eth0", inside=pod)[0]["addr_info"]]
    assert found == ["10.60.0.5", "10.50.0.5"]


def test_the_first_of_a_subnet_is_what_the_pod_sends_from(node: Lab, pod: str) -> None:
    """Two addresses with one gateway, which the reference fails on, and with two."""
    for ifname, gateways in (("eth0", (1, 1)), ("eth1", (1, 2))):
        addresses = [
            {"address": f"10.60.0.{n}/24", "gateway": f"10.60.0.{gateway}"}
            for n, gateway in zip((9, 5), gateways, strict=True)
        ]
        body = conf(node, ipam={"type": "static", "addresses": addresses})
        result = node.call("ADD", body, pod, ifname=ifname)
        found = {one["dst"]: (one.get("gateway"), one["prefsrc"]) for one in ip("-4", "route", inside=pod)}
        assert found["10.60.0.0/24"] == ("10.60.0.1", "10.60.0.9")
        assert found["10.60.0.1"] == (None, "10.60.0.9")
        assert len(found) == 1 + len(set(gateways))
        node.call("CHECK", body, pod, before=result, ifname=ifname)
        node.call("DEL", body, pod, ifname=ifname)


def test_routes_have_all_that_they_are_given(node: Lab, pod: str) -> None:
    """mtu, advmss, priority, table; another next hop than the gateway."""
    route = {"dst": "10.5.0.0/16", "mtu": 1300, "advmss": 1200, "priority": 7, "table": 100}
    other = {"dst": "10.6.0.0/16", "gw": "10.40.0.7"}
    addresses = [{"address": "10.40.0.5/24", "gateway": "10.40.0.1"}]
    ipam = {"type": "static", "addresses": addresses, "routes": [route, other]}
    result = node.call("ADD", conf(node, ipam=ipam), pod)
    assert result["routes"] == [route, other]
    (found,) = ip("route", "show", "table", "100", inside=pod)
    assert (found["metric"], found["metrics"]) == (7, [{"mtu": 1300, "advmss": 1200}])
    assert ip("route", "show", "10.6.0.0/16", inside=pod)[0]["gateway"] == "10.40.0.7"
    node.call("CHECK", conf(node, ipam=ipam), pod, before=result)


def test_errors_name_the_key(node: Lab, pod: str) -> None:
    """And leave nothing."""
    with pytest.raises(CniFailed, match=r"ipam\.addresses\[0\]\.address: '10\.40\.0\.5' is not"):
        node.call("ADD", conf(node, ipam={"type": "static", "addresses": [{"address": "10.40.0.5"}]}), pod)
    with pytest.raises(CniFailed, match="without a gateway"):
        node.call("ADD", conf(node, ipam={"type": "static", "addresses": [{"address": "10.40.0.5/24"}]}), pod)
    with pytest.raises(CniFailed, match=r"ipam\.type: is missing"):
        node.call("ADD", conf(node, ipam={}), pod)
    assert not links("veth")

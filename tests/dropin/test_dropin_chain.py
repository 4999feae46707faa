"""Drop-in portmap, bandwidth and tuning: after our bridge, and after the reference plugins' one."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from dropin_lab import CniFailed, Lab, buried, ip, links, wait_for

from podway.cni.dropin.tuning import path
from podway.cni.errors import CniError
from podway.observe import client

pytestmark = pytest.mark.kernel

REFERENCE = Path("/usr/lib/cni")
UDP = {"hostPort": 8053, "containerPort": 53, "protocol": "udp"}
LIMITS = {"ingressRate": 1000000, "ingressBurst": 800000, "egressRate": 2000000, "egressBurst": 800000}


def _conf(kind: str, **keys: Any) -> dict[str, Any]:
    return {"cniVersion": "1.0.0", "name": "net", "type": kind, **keys}


def _bridge(lab: Lab) -> dict[str, Any]:
    ranges = [[{"subnet": "10.88.0.0/16"}]]
    ipam = {"type": "host-local", "dataDir": str(lab.data), "ranges": ranges}
    return _conf("bridge", bridge="cni0", isGateway=True, ipam=ipam)


def _portmap(*mappings: dict[str, Any], **keys: Any) -> dict[str, Any]:
    return _conf("portmap", runtimeConfig={"portMappings": list(mappings)}, **keys)


def _elements(name: str) -> str:
    done = subprocess.run(
        ["nft", "list", "set", "inet", "podway", name], capture_output=True, text=True, check=False
    )
    map_of = subprocess.run(["nft", "list", "map", "inet", "podway", name], capture_output=True, text=True)
    return re.sub(r"\s+", " ", done.stdout + map_of.stdout)


def _queues() -> list[str]:
    found = subprocess.run(["tc", "qdisc", "show"], capture_output=True, text=True).stdout
    return [line.split()[1] for line in found.splitlines() if line.split()[1] in ("tbf", "ingress")]


@pytest.fixture(params=["ours", "reference"])
def main(request: pytest.FixtureRequest, node: Lab) -> Lab:
    """A node whose bridge plugin, and host-local, are ours or Debian's."""
    if request.param == "reference":
        for name in ("bridge", "host-local"):
            (node.bin / name).unlink()
            (node.bin / name).symlink_to(REFERENCE / name)
    return node


@pytest.mark.parametrize("order", [("eth0", "eth1"), ("eth1", "eth0")])
def test_a_port_of_two_interfaces_leads_to_the_first_that_is_there(
    node: Lab, pod: str, order: tuple[str, str]
) -> None:
    bridge, led = _bridge(node), "udp . 8053 : {} . 53".format
    address = {}
    for ifname in order:
        given = node.call("ADD", bridge, pod, ifname=ifname)
        node.call("ADD", _portmap(UDP), pod, ifname=ifname, before=given)
        address[ifname] = given["ips"][0]["address"].partition("/")[0]
        node.call("CHECK", _portmap(UDP), pod, ifname=ifname, before=given)
    assert led(address["eth0"]) in _elements("ports4")
    node.call("DEL", _portmap(), pod, ifname="eth0")
    assert led(address["eth1"]) in _elements("ports4")
    node.call("DEL", _portmap(), pod, ifname="eth1")
    assert "8053" not in _elements("ports4")


def test_ports_lead_to_the_pod_and_go_with_an_empty_namespace(main: Lab, pod: str) -> None:
    given = main.call("ADD", _bridge(main), pod)
    passed = main.call("ADD", _portmap(UDP), pod, before=given)
    assert passed == {key: value for key, value in given.items() if value}
    assert "udp . 8053 : 10.88.0.2 . 53" in _elements("ports4")
    assert "10.88.0.2 . 10.88.0.0/16" in _elements("callers4")
    assert Path("/proc/sys/net/ipv4/conf/cni0/route_localnet").read_text().strip() == "1"
    main.call("CHECK", _portmap(UDP), pod, before=given)
    subprocess.run(["nft", "flush", "map", "inet", "podway", "ports4"], check=True)
    if main.process is None:  # an in-process engine repairs when it opens, an agent by the event
        main.call("CHECK", _portmap(UDP), pod, before=given)
    main.call("DEL", _portmap(), pod, namespace="")
    main.call("DEL", _portmap(), pod, namespace="")
    assert "8053" not in _elements("ports4")
    assert "10.88" not in _elements("callers4")


def test_a_taken_port_is_refused_and_named(lab: Lab, pod: str, other_pod: str) -> None:
    first = lab.call("ADD", _bridge(lab), pod)
    lab.call("ADD", _portmap(UDP), pod, before=first)
    second = lab.call("ADD", _bridge(lab), other_pod)
    with pytest.raises(CniFailed, match="8053") as refused:
        lab.call("ADD", _portmap(UDP), other_pod, before=second)
    assert refused.value.code == 101
    assert "10.88.0.2 . 53" in _elements("ports4")
    lab.call("DEL", _portmap(), pod)
    lab.call("ADD", _portmap(UDP), other_pod, before=second)
    assert "10.88.0.3 . 53" in _elements("ports4")


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"backend": "ipvs"}, "backend"),
        ({"conditionsV4": ["-m", "owner"]}, "conditionsV4: '-m' can't"),
        ({"conditionsV4": ["-d", "fd00::/8"]}, "conditionsV4: fd00::/8 is not an IPv4 prefix"),
        ({"conditionsV6": ["!", "-i", 'a"b']}, "conditionsV6: .* is no link's name"),
        ({"conditionsV4": ["ip saddr 1.2.3.4 ; flush ruleset"]}, "conditionsV4: '; flush ruleset' can't"),
        ({"conditionsV4": ["-d", "1.2.3.4", "!"]}, "conditionsV4: nothing follows"),
        ({"externalSetMarkChain": "X", "markMasqBit": 3}, "externalSetMarkChain"),
        ({"markMasqBit": 32}, "markMasqBit"),
    ],
)
def test_bad_portmap(lab: Lab, pod: str, keys: dict[str, Any], named: str) -> None:
    before = {"ips": [{"address": "10.88.0.2/16"}]}
    with pytest.raises(CniFailed, match=named) as refused:
        lab.call("ADD", _portmap(UDP, **keys), pod, before=before)
    assert refused.value.code == 7


def test_limits_of_a_pod(main: Lab, pod: str) -> None:
    conf = _conf("bandwidth", **LIMITS)
    given = main.call("ADD", _bridge(main), pod)
    passed = main.call("ADD", conf, pod, before=given)
    assert passed["interfaces"][:3] == given["interfaces"]
    assert [one["name"] for one in passed["interfaces"][3:]] == links("ifb")
    assert sorted(_queues()) == ["ingress", "tbf", "tbf"]
    main.call("CHECK", conf, pod, before=passed)
    main.call("DEL", conf, pod, before=passed)
    main.call("DEL", _bridge(main), pod, before=given)
    if main.process is None:
        assert not links("ifb")


@pytest.mark.parametrize("keys", [{"ingressRate": 1000}, {"egressBurst": 1000}, {"ingressRate": -1}])
def test_bad_limits(lab: Lab, pod: str, keys: dict[str, Any]) -> None:
    given = lab.call("ADD", _bridge(lab), pod)
    with pytest.raises(CniFailed, match="gress") as refused:
        lab.call("ADD", _conf("bandwidth", **keys), pod, before=given)
    assert refused.value.code == 7


def test_tuning_is_checked_and_put_back(main: Lab, pod: str) -> None:
    sysctl = {"net.ipv4.conf.IFNAME.arp_filter": "1"}
    conf = _conf("tuning", sysctl=sysctl, mac="c2:11:22:33:44:55", mtu=1300, txQLen=77, allmulti=True)
    given = main.call("ADD", _bridge(main), pod)
    (found,) = ip("link", "show", "eth0", inside=pod)
    passed = main.call("ADD", conf, pod, before=given)
    assert passed["interfaces"][2]["mac"] == "c2:11:22:33:44:55"
    (now,) = ip("link", "show", "eth0", inside=pod)
    assert (now["address"], now["mtu"], now["txqlen"]) == ("c2:11:22:33:44:55", 1300, 77)
    assert "ALLMULTI" in now["flags"]
    main.call("CHECK", conf, pod, before=passed)
    main.call("CHECK", _bridge(main), pod, before=passed)
    subprocess.run(
        ["ip", "netns", "exec", pod, "sysctl", "-qw", "net.ipv4.conf.eth0.arp_filter=0"], check=True
    )
    with pytest.raises(CniFailed, match="arp_filter"):
        main.call("CHECK", conf, pod, before=passed)
    main.call("DEL", conf, pod, before=passed)
    (back,) = ip("link", "show", "eth0", inside=pod)
    assert (back["address"], back["mtu"]) == (found["address"], found["mtu"])
    assert "ALLMULTI" not in back["flags"]


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("net.ipv4.conf.IFNAME.arp_filter", "net/ipv4/conf/eth0/arp_filter"),
        ("net/ipv4/conf/eth0.100/arp_filter", "net/ipv4/conf/eth0.100/arp_filter"),
        ("net.ipv4.conf.eth0/100.arp_filter", "net/ipv4/conf/eth0.100/arp_filter"),
        ("kernel.hostname", None),
        ("net/../kernel/hostname", None),
        ("net/ipv4//x", None),
        ("net.ipv4.//.kernel", None),
        ("net", None),
        ("", None),
    ],
)
def test_sysctls_never_leave_the_network(key: str, found: str | None) -> None:
    if found is None:
        with pytest.raises(CniError, match="no sysctl of the network"):
            path("sysctl", key, "eth0")
    else:
        assert path("sysctl", key, "eth0") == found


def test_podway_plan_has_nothing_to_change(lab: Lab, pod: str) -> None:
    """Beside an agent whose pod came by the whole chain: what is asked changes nothing, and finds nothing."""
    tuning = _conf("tuning", sysctl={"net.ipv4.conf.IFNAME.arp_notify": "1"}, mtu=1400)
    portmap, limits = _portmap(UDP, snat=True), _conf("bandwidth", **LIMITS)
    chain = [_bridge(lab) | {"ipMasq": True}, portmap, limits, _conf("firewall"), tuning]
    lab.start()
    result: Any = None
    for conf in chain:
        result = lab.call("ADD", conf, pod, before=result)
    assert lab.podway("plan") == "nothing to change\n"
    for conf in reversed(chain):
        lab.call("DEL", conf, pod, before=result)
    wait_for(lambda: buried(lab), "all of the pod is gone")
    assert lab.podway("plan") == "nothing to change\n"
    status = client.status(str(lab.directory / "agent.sock"))
    assert status.programmed == status.desired  # what went with the pod isn't counted any more

"""VXLAN and host-gw over every family: IPv4, IPv6 and dual-stack pods, on nodes of one family or both; what
the kernel's VXLAN device is made of; neighbour discovery without flooding; advertisements of strangers."""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab_tools import podway, running

from podway.lab import lab as labs
from podway.lab.place import find

pytestmark = pytest.mark.kernel
NAME = f"u{os.getpid()}"

LANS = {"v4": ("192.0.2.0/24", "203.0.113.0/24"), "v6": ("fd00:192:0:2::/64", "fd00:203:0:113::/64")}
POOLS = {"v4": "10.244.0.0/16", "v6": "fd00:10:244::/48"}


def lab_file(path: Path, preset: str, pods: str, nodes: str, spec: dict[str, Any] | None = None) -> str:
    """Two nodes, on one LAN for host-gw and on both sides of a router for VXLAN; JSON is YAML."""
    families = ("v4", "v6") if nodes == "both" else (nodes,)
    left, right = ([LANS[one][side] for one in families] for side in (0, 1))
    far = "left" if preset == "flannel-host-gw" else "right"
    pools = [{"cidr": POOLS[one]} for one in (("v4", "v6") if pods == "both" else (pods,))]
    network = {
        "apiVersion": "podway.dev/v1",
        "kind": "Network",
        "metadata": {"name": "pods"},
        "spec": {"preset": preset, "pools": pools, **(spec or {})},
    }
    topology = {
        "segments": {"left": {"cidrs": left}, "right": {"cidrs": right}},
        "routers": {"router": {"segments": ["left", "right"]}},
        "nodes": {"a": {"segment": "left", "pods": 1}, "b": {"segment": far, "pods": 1}},
        "documents": [network],
    }
    path.write_text(json.dumps(topology))
    return str(path)


@pytest.mark.parametrize("pods", ["v4", "v6", "both"])
@pytest.mark.parametrize("underlay", ["v4", "v6"])
def test_vxlan_carries_each_family_over_each(tmp_path: Path, pods: str, underlay: str) -> None:
    """Nodes have one family alone, so the tunnel has no other to fall back to; v6 on v6 is a cluster without
    any IPv4. Every pair by ICMP, TCP, UDP and full MTU, across a router; of what no family is common to, pods
    with pods and nodes with nodes."""
    spec = {"vxlan": {"underlay": "ipv4" if underlay == "v4" else "ipv6"}}
    path = lab_file(tmp_path / "lab.yaml", "flannel-vxlan", pods, underlay, spec)
    with running(NAME, "-f", path):
        pairs = 12 if pods in (underlay, "both") else 4
        assert f"{pairs} of {pairs} pairs reached" in podway("test", "--name", NAME).stdout
        seen = labs.way(find(NAME), "a-1", "b-1")
        assert seen[-1].namespace == "b-1" and any(one.outer.startswith("VXLAN 1, UDP 8472") for one in seen)
        found = json.loads(inside("a-1", "ip", "-j", "link", "show", "eth0"))
        assert found[0]["mtu"] == 1500 - (50 if underlay == "v4" else 70)


@pytest.mark.parametrize("family", ["v4", "v6"])
def test_host_gw_in_a_cluster_of_one_family(tmp_path: Path, family: str) -> None:
    """Nothing around a packet: pods have the LAN's whole MTU. Dual stack is what every other lab has."""
    with running(NAME, "-f", lab_file(tmp_path / "lab.yaml", "flannel-host-gw", family, family)):
        assert "12 of 12 pairs reached" in podway("test", "--name", NAME).stdout
        assert json.loads(inside("a-1", "ip", "-j", "link", "show", "eth0"))[0]["mtu"] == 1500


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Dual stack over dual-stack nodes, on both sides of a router."""
    path = lab_file(tmp_path_factory.mktemp("lab") / "lab.yaml", "flannel-vxlan", "both", "both")
    with running(NAME, "-f", path) as name:
        yield name


def inside(target: str, *command: str) -> str:
    return podway("exec", "--name", NAME, target, "--", *command).stdout


def tunnel(node: str) -> dict[str, Any]:
    """The VXLAN device of a node, as ``ip -d -j link`` tells it."""
    (found,) = json.loads(inside(node, "ip", "-d", "-j", "link", "show", "type", "vxlan"))
    return dict(found)


def test_what_the_device_is_made_of(lab: str) -> None:
    """The choices that docs/transports.md gives reasons for."""
    device = tunnel("a")
    data = device["linkinfo"]["info_data"]
    assert (data["id"], data["port"], data["local"]) == (1, 8472, "192.0.2.1")
    assert data["learning"] is False and "group" not in data  # nothing is learned, nothing flooded
    assert data.get("ttl", 0) == 0 and not data.get("ttl_inherit")  # the underlay's own, not the pod's
    assert data.get("df", "unset") == "unset"  # an IPv4 router may cut it rather than lose it
    assert data["udp_csum"] is False and data["udp_zero_csum6_tx"] is False
    features = inside("a", "ethtool", "-k", device["ifname"]) if shutil.which("ethtool") else ""
    assert not features or "generic-receive-offload: on" in features
    assert device["mtu"] == 1450


def test_neighbours_are_told_and_never_asked_for(lab: str) -> None:
    """Permanent neighbours and forwarding entries for the peer, none for "all others"; a packet to an address
    that nobody has is answered by the node that owns its block, and floods nothing."""
    device = tunnel("a")["ifname"]
    entries = json.loads(inside("a", "bridge", "-j", "fdb", "show", "dev", device))
    assert [(one["dst"], one["mac"]) for one in entries] == [("203.0.113.1", tunnel("b")["address"])]
    neighbours = json.loads(inside("a", "ip", "-j", "neigh", "show", "dev", device))
    assert {tuple(one["state"]) for one in neighbours} == {("PERMANENT",)}
    assert {one["lladdr"] for one in neighbours} == {tunnel("b")["address"]}
    (peer,) = (one for one in json.loads(inside("a", "ip", "-j", "route")) if one.get("dev") == device)
    nobody = str(ipaddress.ip_network(peer["dst"])[200])
    text = podway("exec", "--name", lab, "a-1", "--", "ping", "-c1", "-W4", nobody, check=None).stdout
    assert "Unreachable" in text and "From" in text
    assert json.loads(inside("a", "bridge", "-j", "fdb", "show", "dev", device)) == entries


ADVERTISE = """
import socket, struct
made = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
prefix = socket.inet_pton(socket.AF_INET6, "2001:db8:bad::")
option = struct.pack("!BBBBIII16s", 3, 4, 64, 0xC0, 86400, 86400, 0, prefix)
message = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + option
for _ in range(3):
    made.sendto(message, ("ff02::1%eth0", 0))
"""


def test_a_router_advertisement_changes_no_pod(lab: str) -> None:
    """One of a pod (a default router and a prefix to take addresses from, RFC 4861 section 4.2): no pod and
    no node takes a route or an address of it. One on the nodes' LAN is theirs to take: no pod sees it."""
    watched = ("a-1", "a", "b-1", "b")
    before = {one: _ipv6(one) for one in watched}
    inside("a-1", sys.executable, "-c", ADVERTISE)
    assert {one: _ipv6(one) for one in watched} == before
    inside("router", sys.executable, "-c", ADVERTISE)
    assert {one: _ipv6(one) for one in ("a-1", "b-1")} == {one: before[one] for one in ("a-1", "b-1")}


def _ipv6(target: str) -> list[str]:
    """Addresses and routes, without what counts down."""
    addresses = json.loads(inside(target, "ip", "-6", "-j", "addr"))
    routes = json.loads(inside(target, "ip", "-6", "-j", "route"))
    found = [
        f"{link.get('ifname')} {one.get('local')}" for link in addresses for one in link.get("addr_info", ())
    ]
    return sorted(found + [f"{one['dst']} {one.get('gateway')} {one.get('dev')}" for one in routes])


def test_an_address_is_usable_without_waiting_for_detection(lab: str) -> None:
    """No address of a pod, bridge or tunnel is tentative: all are given without duplicate detection."""
    for target, uplink in (("a-1", ""), ("a", "eth0")):
        links = json.loads(inside(target, "ip", "-6", "-j", "addr"))
        for link in [one for one in links if one.get("ifname") != uplink]:
            tentative = [one["local"] for one in link.get("addr_info", ()) if one.get("tentative")]
            assert not tentative, (target, link["ifname"])

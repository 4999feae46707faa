"""Results of every version, as executables get and give them, beside the reference plugins."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from differential import release
from dropin_lab import CniFailed, Lab, buried, ip, wait_for

from podway.cni.protocol import VERSIONS, at_least

pytestmark = pytest.mark.kernel

MAC, GATEWAY4, GATEWAY6 = "02:00:00:00:05:02", "10.5.0.1", "fd00:5::1"
OWN4, OWN6 = "10.5.0.2/24", "fd00:5::2/64"
DNS = {"nameservers": ["10.5.0.53"], "domain": "a.org", "search": ["b.org"], "options": ["ndots:2"]}
PORTS = {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}
PLUGINS: dict[str, dict[str, Any]] = {
    "tuning": {"sysctl": {"net.ipv4.conf.eth0.arp_filter": "1"}, "mtu": 1400},
    "portmap": {"runtimeConfig": PORTS},
    "loopback": {},
}


def previous(version: str, pod: str) -> dict[str, Any]:
    """The result of a plugin before, in the shape of a version."""
    routes = [{"dst": "0.0.0.0/0", "gw": GATEWAY4}, {"dst": "10.7.0.0/16", "gw": GATEWAY4}]
    routes6 = [{"dst": "::/0", "gw": GATEWAY6}]
    if not at_least(version, "0.3.0"):
        four = {"ip": OWN4, "gateway": GATEWAY4, "routes": routes}
        six = {"ip": OWN6, "gateway": GATEWAY6, "routes": routes6}
        return {"cniVersion": version, "ip4": four, "ip6": six, "dns": DNS}
    newest = at_least(version, "1.1.0")
    link = {"name": "host0", "mac": "02:00:00:00:05:01"} | ({"mtu": 1500} if newest else {})
    inside = {"name": "eth0", "mac": MAC, "sandbox": f"/run/netns/{pod}"}
    ips: list[dict[str, Any]] = [
        {"address": OWN4, "gateway": GATEWAY4, "interface": 1},
        {"address": OWN6, "gateway": GATEWAY6, "interface": 1},
    ]
    if not at_least(version, "1.0.0"):
        for one, family in zip(ips, "46", strict=True):
            one["version"] = family
    further = [{"dst": "10.8.0.0/16", "gw": GATEWAY4, "mtu": 1300, "advmss": 1200, "priority": 7, "scope": 0}]
    shaped = {"interfaces": [link, inside], "ips": ips, "dns": DNS}
    return {"cniVersion": version, **shaped, "routes": routes + routes6 + (further if newest else [])}


@pytest.fixture
def wired(lab: Lab, pod: str) -> Iterator[str]:
    """A pod whose interface somebody has made as ``previous`` says, and an agent."""
    inside = f"ip -n {pod}"
    for command in (
        f"ip link add host0 address 02:00:00:00:05:01 type veth peer eth0 address {MAC} netns {pod}",
        f"ip addr add {GATEWAY4}/24 dev host0",
        "ip link set host0 up",
        f"{inside} addr add {OWN4} dev eth0",
        f"{inside} addr add {OWN6} dev eth0 nodad",
        f"{inside} link set eth0 up",
        f"{inside} route add default via {GATEWAY4}",
        f"{inside} route add 10.7.0.0/16 via {GATEWAY4}",
        f"{inside} -6 route add default via {GATEWAY6}",
    ):
        subprocess.run(command.split(), check=True)
    lab.start()
    yield pod


def answer(lab: Lab, command: str, body: dict[str, Any], pod: str, before: Any) -> Any:
    """A result, or that there was none."""
    ifname = "lo" if body["type"] == "loopback" else "eth0"
    try:
        return lab.call(command, body, pod, before=before, ifname=ifname)
    except CniFailed as failed:
        print(command, failed.msg)  # the words are everybody's own
        return "an error"


def theirs(lab: Lab, call: Callable[[], Any]) -> Any:
    """By the reference plugins."""
    own, lab.path = lab.path, release().directory
    try:
        return call()
    finally:
        lab.path = own


@pytest.mark.parametrize("told", ["its version", "no version"])
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("plugin", PLUGINS)
def test_what_comes_before_is_passed_on(lab: Lab, wired: str, plugin: str, version: str, told: str) -> None:
    """As by the reference plugin, be the shape said by the result itself or by the configuration."""
    body = {"cniVersion": version, "name": "vs", "type": plugin, "dataDir": str(lab.data), **PLUGINS[plugin]}
    before = previous(version, wired)
    if told == "no version":
        del before["cniVersion"]
    lab.data.mkdir()

    def life() -> list[Any]:
        return [answer(lab, command, body, wired, before) for command in ("ADD", "DEL")]

    expected = theirs(lab, life)
    found = life()
    wait_for(lambda: buried(lab))
    assert found == expected


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("plugin", ["bridge", "ptp", "macvlan"])
def test_what_is_made_is_told(lab: Lab, pod: str, plugin: str, version: str) -> None:
    """In the shape of the version, as by the reference plugin but for names and MACs of links."""
    ranges = [[{"subnet": "10.5.0.0/24"}], [{"subnet": "fd00:5::/64"}]]
    routes = [{"dst": "0.0.0.0/0"}, {"dst": "10.7.0.0/16", "gw": "10.5.0.9"}, {"dst": "::/0"}]
    ipam = {"type": "host-local", "dataDir": str(lab.data), "ranges": ranges, "routes": routes}
    where = {"bridge": {"bridge": "br5", "isGateway": True}, "ptp": {}, "macvlan": {"master": "up5"}}[plugin]
    body = {"cniVersion": version, "name": "vs", "type": plugin, "ipam": ipam, **where}
    subprocess.run(["ip", "link", "add", "up5", "type", "veth", "peer", "up6"], check=True)
    subprocess.run(["ip", "link", "set", "up5", "up"], check=True)
    lab.start()

    def life() -> str:
        found = lab.call("ADD", body, pod)
        lab.call("DEL", body, pod, before=found)
        subprocess.run(["ip", "link", "del", "br5"], capture_output=True)
        Path(lab.data, "vs").rename(lab.directory / f"used{len(list(lab.directory.iterdir()))}")
        links = [one["name"] for one in found.get("interfaces", ()) if one["name"] not in ("br5", "eth0")]
        told = json.dumps(found)
        for one in links:
            told = told.replace(one, "LINK")
        return re.sub(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}", "MAC", told)

    expected = theirs(lab, life)
    found = life()
    wait_for(lambda: buried(lab))
    assert json.loads(found) == json.loads(expected)
    assert not [one for one in ip("link", inside=pod) if one["ifname"] != "lo"]

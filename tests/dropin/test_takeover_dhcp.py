"""Leases of the reference plugin's daemon: given back by our DEL, extended from our first CHECK on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dhcp_server import BRIDGE, Dhcpd, segment, theirs
from dropin_lab import CniFailed, Lab, ip, wait_for

pytestmark = pytest.mark.kernel

SHORT = ("--dhcp-option=option:T1,3", "--dhcp-option=option:T2,6")  # seconds


@pytest.fixture
def server(lab: Lab, tmp_path: Path) -> Iterator[Dhcpd]:
    """A segment with a server, and no agent yet."""
    with segment(tmp_path) as made:
        made.start(50, *SHORT)
        yield made


def conf(lab: Lab, main: str = "bridge") -> dict[str, Any]:
    """A pod on the segment, by bridge or macvlan."""
    ipam = {"type": "dhcp", "daemonSocketPath": f"{lab.directory}/dhcp.sock"}
    where = {"bridge": BRIDGE} if main == "bridge" else {"master": BRIDGE}
    return {"cniVersion": "1.0.0", "name": "lan", "type": main, "ipam": ipam, **where}


@pytest.mark.parametrize("main", ["bridge", "macvlan"])
def test_del_gives_their_lease_back(lab: Lab, server: Dhcpd, pod: str, other_pod: str, main: str) -> None:
    """The server is told, though nobody here knows which it is; another pod's lease stays."""
    body = conf(lab, main)
    with theirs(lab):
        results = [lab.call("ADD", body, one) for one in (pod, other_pod)]
    mine, other = (one["ips"][0]["address"].partition("/")[0] for one in results)
    lab.start()
    for _ in range(2):
        lab.call("DEL", body, pod, before=results[0])
    wait_for(lambda: server.leases == [other], "the address is given back")
    assert server.said("DHCPRELEASE") == 1
    assert [one["ifname"] for one in ip("link", inside=pod)] == ["lo"]
    assert ip("-4", "addr", "show", "eth0", inside=other_pod)[0]["addr_info"][0]["local"] == other
    assert f"lease {mine}" in lab.podway("journal")


def test_check_extends_it_from_now_on(lab: Lab, server: Dhcpd, pod: str) -> None:
    """By the agent, once; a DEL without the pod's namespace forgets it."""
    body = conf(lab)
    with theirs(lab):
        result = lab.call("ADD", body, pod)
    with pytest.raises(CniFailed, match="no agent runs") as failed:
        lab.call("CHECK", body, pod, before=result)
    assert failed.value.code == 11
    lab.start()
    for _ in range(2):
        lab.call("CHECK", body, pod, before=result)
    granted = server.said("DHCPACK")
    wait_for(lambda: server.said("DHCPACK") > granted + 1, "renewed")
    lab.call("DEL", body, pod, namespace="")
    wait_for(lambda: not server.leases, "the address is given back")


def test_an_address_that_no_server_knows_is_no_lease(lab: Lab, server: Dhcpd, pod: str) -> None:
    """CHECK says so, and DEL takes the rest away."""
    body = conf(lab)
    with theirs(lab):
        result = lab.call("ADD", body, pod)
    server.stop()
    lab.start()
    with pytest.raises(CniFailed, match="eth0 has no lease"):
        lab.call("CHECK", body, pod, before=result)
    lab.call("DEL", body, pod, before=result)
    assert [one["ifname"] for one in ip("link", inside=pod)] == ["lo"]


def test_a_lost_database(lab: Lab, server: Dhcpd, pod: str) -> None:
    """A CHECK finds the lease again; so does a DEL."""
    body = conf(lab)
    for found_by in ("CHECK", "DEL"):
        lab.start()
        result = lab.call("ADD", body, pod)
        lab.stop()
        for file in lab.state.glob("node.db*"):
            file.unlink()
        lab.start()
        if found_by == "CHECK":
            lab.call("CHECK", body, pod, before=result)
            granted = server.said("DHCPACK")
            wait_for(lambda before=granted: server.said("DHCPACK") > before, "renewed")
        lab.call("DEL", body, pod, before=result)
        wait_for(lambda: not server.leases, "the address is given back")
        lab.stop()
    assert json.dumps(ip("link", inside=pod)).count("ifname") == 1

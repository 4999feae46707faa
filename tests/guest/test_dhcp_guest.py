"""``dhcp`` with a real server under the plugins whose links the guest's kernel makes."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dhcp_server import BRIDGE, Dhcpd, segment
from dropin_engine import Here
from dropin_lab import CniFailed, ip, wait_for

from podway.model.dropin import Leased
from podway.node import dhcp

pytestmark = pytest.mark.guest


@pytest.fixture
def server(here: Here, tmp_path: Path) -> Iterator[Dhcpd]:
    """A segment with a server, and a node that extends leases."""
    with segment(tmp_path) as made:
        here.engine.leased = lambda: None
        yield made


def conf(plugin: str, **more: Any) -> dict[str, Any]:
    ipam = {"type": "dhcp"}
    return {"cniVersion": "1.0.0", "name": "lan", "type": plugin, "master": BRIDGE, "ipam": ipam, **more}


def add(here: Here, body: dict[str, Any], pod: str) -> str:
    """The address that a pod's eth0 has got."""
    result = here.call("ADD", body, pod)
    (given,) = (one["address"] for one in result["ips"])
    shown = ip("-4", "addr", "show", "eth0", inside=pod)[0]["addr_info"]
    assert [f"{one['local']}/{one['prefixlen']}" for one in shown] == [given]
    here.call("CHECK", body, pod, before=result)
    return str(given.partition("/")[0])


def test_ipvlan_hears_a_server(here: Here, server: Dhcpd, pod: str, other_pod: str) -> None:
    """All its pods have one MAC, so an answer must be to all; a later one comes to the address."""
    server.start()
    body = conf("ipvlan")
    given = [add(here, body, one) for one in (pod, other_pod)]
    assert sorted(server.leases) == sorted(given) and len(set(given)) == 2
    assert "broadcast response" in server.log
    piece = here.engine.pieces.known[f"{pod}/eth0/lan/dhcp"]
    assert isinstance(piece.want, Leased)
    for rebind in (False, True):
        extended = dhcp.extend(piece, piece.want, rebind)
        assert extended is not None and extended.obtained_at > piece.want.obtained_at and not extended.lost
    here.call("DEL", body, pod)
    wait_for(lambda: server.leases == given[1:], "the address is given back")
    with pytest.raises(CniFailed, match="mode: a DHCP server is heard in mode l2 alone") as failed:
        here.call("ADD", conf("ipvlan", mode="l3"), pod)
    assert failed.value.code == 7


def test_vlan_gets_a_lease(here: Here, server: Dhcpd, pod: str, tmp_path: Path) -> None:
    """Of the server that serves the VLAN."""
    for command in (
        "link add link srv0 name srv7 type vlan id 7",
        "addr add 10.62.0.1/24 dev srv7",
        "link set srv7 up",
    ):
        subprocess.run(["ip", "-n", server.namespace, *command.split()], check=True)
    (tmp_path / "vlan").mkdir()
    of_vlan = Dhcpd(server.namespace, tmp_path / "vlan", "srv7", "10.62.0")
    of_vlan.start()
    try:
        body = conf("vlan", vlanId=7)
        assert add(here, body, pod).startswith("10.62.0.")
        assert "broadcast response" not in of_vlan.log
        here.call("DEL", body, pod)
        wait_for(lambda: not of_vlan.leases, "the address is given back")
    finally:
        of_vlan.stop()

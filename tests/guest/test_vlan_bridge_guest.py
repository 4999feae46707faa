"""Drop-in ``bridge`` with VLANs on a kernel that filters them: who reaches whom, trunks, gateways, repair."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from dropin_engine import Here
from dropin_lab import CniFailed, ip, links, pods

pytestmark = pytest.mark.guest


@pytest.fixture
def three() -> Iterator[list[str]]:
    """Three containers."""
    names = ["vlan1", "vlan2", "vlan3"]
    with pods(*names):
        yield names


def conf(here: Here, **more: Any) -> dict[str, Any]:
    ipam = {"type": "host-local", "dataDir": str(here.data), "ranges": [[{"subnet": "10.81.0.0/24"}]]}
    return {"cniVersion": "1.1.0", "name": "w", "type": "bridge", "bridge": "vb0", "ipam": ipam, **more}


def vlans(link: str) -> dict[int, set[str]]:
    """Number → flags, as ``bridge`` shows them."""
    done = subprocess.run(
        ["bridge", "-j", "vlan", "show", "dev", link], check=True, capture_output=True, text=True
    )
    (found,) = json.loads(done.stdout)
    shown: dict[int, set[str]] = {}
    for one in found["vlans"]:
        for number in range(one["vlan"], one.get("vlanEnd", one["vlan"]) + 1):
            shown[number] = set(one.get("flags", ()))
    return shown


def reaches(pod: str, target: str, wait: int = 20) -> bool:
    command = ["ip", "netns", "exec", pod, "ping", "-c1", f"-W{wait}", target]
    return subprocess.run(command, capture_output=True).returncode == 0


NATIVE = {"PVID", "Egress Untagged"}


def test_pods_of_one_vlan_reach_each_other_alone(here: Here, three: list[str]) -> None:
    """Whatever was changed by hand is put back, by the next pass."""
    found = [here.call("ADD", conf(here, vlan=n), pod) for n, pod in zip((10, 10, 20), three, strict=True)]
    ports = [one["interfaces"][1]["name"] for one in found]
    assert [vlans(port) for port in ports] == [{10: NATIVE}, {10: NATIVE}, {20: NATIVE}]
    assert ip("-d", "link", "show", "vb0")[0]["linkinfo"]["info_data"]["vlan_filtering"] == 1
    assert reaches(three[0], "10.81.0.3") and not reaches(three[0], "10.81.0.4", wait=2)
    for command in (f"vlan add dev {ports[2]} vid 10 pvid untagged", f"vlan del dev {ports[1]} vid 10"):
        subprocess.run(["bridge", *command.split()], check=True)
    with pytest.raises(CniFailed, match=f"link {ports[1]} differs on the node"):
        here.call("CHECK", conf(here, vlan=10), three[1], before=found[1])
    here.engine.reconciler.run()
    assert [vlans(port) for port in ports] == [{10: NATIVE}, {10: NATIVE}, {20: NATIVE}]
    assert not here.engine.reconciler.run().results
    for pod, number, before in zip(three, (10, 10, 20), found, strict=True):
        here.call("CHECK", conf(here, vlan=number), pod, before=before)
        here.call("DEL", conf(here, vlan=number), pod, before=before)


@pytest.mark.parametrize(
    ("keys", "shown"),
    [
        ({"vlan": 10, "preserveDefaultVlan": True}, {1: {"Egress Untagged"}, 10: NATIVE}),
        (
            {"vlanTrunk": [{"minID": 5, "maxID": 7}, {"id": 9}]},
            {1: NATIVE, 5: set(), 6: set(), 7: set(), 9: set()},
        ),
        ({"vlan": 10, "vlanTrunk": [{"id": 9}]}, {9: set(), 10: NATIVE}),
        ({"vlanTrunk": [{"minID": 1, "maxID": 4094}]}, {1: NATIVE, **{n: set() for n in range(2, 4095)}}),
    ],
)
def test_ports(here: Here, pod: str, keys: dict[str, Any], shown: dict[int, set[str]]) -> None:
    """As the reference plugin leaves them."""
    result = here.call("ADD", conf(here, **keys), pod)
    assert vlans(result["interfaces"][1]["name"]) == shown
    here.call("CHECK", conf(here, **keys), pod, before=result)
    assert not here.engine.reconciler.run().results


def test_gateways(here: Here, three: list[str]) -> None:
    """Each VLAN has its own, on a link of the node's; it is repaired, and stays with the bridge."""
    keys: dict[str, Any] = {"isGateway": True, "vlan": 10}
    results = [here.call("ADD", conf(here, **keys), pod) for pod in three[:2]]
    assert [one["name"] for one in results[0]["interfaces"]][0::3] == ["vb0", "vb0.10"]
    assert reaches(three[0], "10.81.0.1") and reaches(three[1], "10.81.0.1")
    ipam = {"type": "host-local", "dataDir": str(here.data), "ranges": [[{"subnet": "10.82.0.0/24"}]]}
    other = {**conf(here, isGateway=True, vlan=20, ipam=ipam), "name": "x"}
    here.call("ADD", other, three[2])
    assert reaches(three[2], "10.82.0.1")
    assert {one["ifname"] for one in ip("addr", "show") if one["addr_info"]} >= {"vb0.10", "vb0.20"}
    subprocess.run(["ip", "link", "del", "vb0.10"], check=True)
    here.engine.reconciler.run()
    assert reaches(three[1], "10.81.0.1")
    assert not here.engine.reconciler.run().results
    here.call("DEL", conf(here, **keys), three[0])
    assert "vb0.10" in links("veth")


def test_a_foreign_bridge_has_to_filter_itself(here: Here, pod: str) -> None:
    """It isn't changed; once it filters, it is used."""
    subprocess.run(["ip", "link", "add", "vb0", "type", "bridge"], check=True)
    subprocess.run(["ip", "link", "set", "vb0", "up"], check=True)
    with pytest.raises(CniFailed, match="vb0 filters no VLANs") as failed:
        here.call("ADD", conf(here, vlan=10), pod)
    assert failed.value.code == 7 and not links("veth")
    subprocess.run(["ip", "link", "set", "vb0", "type", "bridge", "vlan_filtering", "1"], check=True)
    result = here.call("ADD", conf(here, vlan=10), pod)
    assert vlans(result["interfaces"][1]["name"]) == {10: NATIVE}

"""``host-device`` with the guest's own network cards, by where the machine has them.

The node is the guest itself: the kernel shows a card in /sys to the namespace that it is in, and a card whose
namespace goes falls back to the first one.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bench.built import CACHE
from dropin_engine import Here, here_is_a_node
from dropin_lab import ip, wait_for

from bench import reference

pytestmark = pytest.mark.guest

PCI = Path("/sys/bus/pci/devices")
USER_SPACE = Path("/sys/bus/pci/drivers/uio_pci_generic")
THEIRS = CACHE / reference.NAME / "host-device"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Here]:
    """The guest."""
    subprocess.run(["modprobe", "-a", "virtio_net", "e1000", "uio_pci_generic"], check=True)
    with here_is_a_node(tmp_path) as made:
        yield made


def card(driver: str) -> tuple[str, str]:
    """PCI address and link of a card; a virtio one's link is one level below."""
    where = "virtio*/net/*" if driver == "virtio-pci" else "net/*"
    found = [
        (one.name, link.name)
        for one in PCI.iterdir()
        if (one / "driver").is_symlink() and (one / "driver").readlink().name == driver
        for link in one.glob(where)
    ]
    assert len(found) == 1, found
    return found[0]


def conf(node: Here, **more: Any) -> dict[str, Any]:
    ipam = {"type": "host-local", "dataDir": str(node.data), "subnet": "10.25.0.0/24"}
    return {"cniVersion": "1.1.0", "name": "cards", "type": "host-device", "ipam": ipam, **more}


def by_the_reference(body: dict[str, Any], pod: str, ifname: str) -> dict[str, Any]:
    """What the reference plugin answers; it has put all back then."""
    answers = []
    for command in ("ADD", "DEL"):
        env = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": pod,
            "CNI_NETNS": f"/run/netns/{pod}",
            "CNI_IFNAME": ifname,
            "CNI_PATH": str(THEIRS.parent),
            "PATH": os.environ["PATH"],
        }
        done = subprocess.run([THEIRS], input=json.dumps(body).encode(), env=env, capture_output=True)
        assert done.returncode == 0, done.stdout
        answers.append(done.stdout)
    answer: dict[str, Any] = json.loads(answers[0])
    return answer


def life(node: Here, body: dict[str, Any], pod: str, there: bool = True) -> dict[str, Any]:
    """ADD, CHECK and DEL; the answer, which is the reference's. ``there``: whether the kernel has a link."""
    expected = by_the_reference(body, pod, "net1") if THEIRS.exists() else None
    (node.data / "cards" / "last_reserved_ip.0").unlink(missing_ok=True)
    result = node.call("ADD", body, pod, ifname="net1")
    assert expected is None or result == expected
    assert ("net1" in [one["ifname"] for one in ip("link", inside=pod)]) == there
    node.call("CHECK", body, pod, ifname="net1", before=result)
    node.call("DEL", body, pod, ifname="net1")
    node.engine.pieces.burial.complete()  # the address is free again
    assert "net1" not in [one["ifname"] for one in ip("link", inside=pod)]
    (node.data / "cards" / "last_reserved_ip.0").unlink(missing_ok=True)
    return result


def test_a_card_by_its_place(node: Here, pod: str) -> None:
    """By the bus's number, the runtime's and the kernel's path; virtio's link is one level deeper."""
    for driver in ("virtio-pci", "e1000"):
        number, name = card(driver)
        (mac,) = (one["address"] for one in ip("link", "show", name))
        path = os.path.realpath(f"/sys/class/net/{name}/device")
        for more in (
            {"pciBusID": number},
            {"runtimeConfig": {"deviceID": number}},
            {"kernelpath": path},
        ):
            result = life(node, conf(node, **more), pod)
            assert result["interfaces"] == [{"name": "net1", "mac": mac, "sandbox": f"/run/netns/{pod}"}]
            assert card(driver) == (number, name)


def test_a_card_whose_pod_is_gone(node: Here, pod: str) -> None:
    """The kernel gives it back to the node under the pod's name for it."""
    number, name = card("e1000")
    body = conf(node, pciBusID=number)
    node.call("ADD", body, pod, ifname="net1")
    subprocess.run(["ip", "netns", "del", pod], check=True)
    wait_for(lambda: "net1" in [one["ifname"] for one in ip("link")], "it falls back")
    subprocess.run(["ip", "netns", "add", pod], check=True)  # another of that name
    node.call("DEL", body, pod, ifname="net1")
    assert card("e1000") == (number, name)
    assert "ifalias" not in ip("link", "show", name)[0]


def test_a_card_that_a_program_drives(node: Here, pod: str) -> None:
    """The kernel has no link of it then: the pod is told the addresses, and nothing is moved."""
    number, _ = card("e1000")
    device = PCI / number
    kind = " ".join((device / one).read_text().strip().removeprefix("0x") for one in ("vendor", "device"))
    (device / "driver" / "unbind").write_text(number)
    (USER_SPACE / "new_id").write_text(kind)
    assert (device / "driver").readlink().name == USER_SPACE.name
    for more in ({"pciBusID": number}, {"runtimeConfig": {"deviceID": number}}):
        result = life(node, conf(node, **more), pod, there=False)
        assert result["interfaces"] == [{"name": "net1", "sandbox": f"/run/netns/{pod}"}]
        assert [one["address"] for one in result["ips"]] == ["10.25.0.2/24"]

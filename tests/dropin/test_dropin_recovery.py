"""What a crash, a lost database or a foreign hand leaves: found by the next DEL, GC or start."""

from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
import subprocess
from typing import Any

import pytest
from dropin_lab import CniFailed, Lab, links, wait_for

from podway.node.faults import POINTS

pytestmark = pytest.mark.kernel


def conf(lab: Lab, plugin: str = "bridge") -> dict[str, Any]:
    """A network with masquerading."""
    ipam = {"type": "host-local", "dataDir": str(lab.data), "subnet": "10.22.0.0/24"}
    ipam["routes"] = [{"dst": "0.0.0.0/0"}]  # type: ignore[assignment]
    own = {"bridge": "cni7", "isGateway": True} if plugin == "bridge" else {}
    return {"cniVersion": "1.1.0", "name": f"n-{plugin}", "type": plugin, "ipMasq": True, "ipam": ipam, **own}


def held(lab: Lab, plugin: str = "bridge") -> bool:
    """Whether an address is given out."""
    return (lab.data / f"n-{plugin}" / "10.22.0.2").exists()


def leaving() -> bool:
    """Whether a pod's address is masqueraded."""
    command = ["nft", "list", "set", "inet", "podway", "leaving4"]
    return "10.22." in subprocess.run(command, capture_output=True, text=True).stdout


@pytest.mark.parametrize("plugin", ["bridge", "ptp"])
def test_a_lost_database_costs_no_pod_its_network(lab: Lab, pod: str, plugin: str) -> None:
    """The link tells whose it is; CHECK finds all of it, DEL frees all of it."""
    lab.start()
    body = conf(lab, plugin)
    result = lab.call("ADD", body, pod)
    lab.stop()
    for file in lab.state.glob("node.db*"):
        file.unlink()
    lab.start()
    reach = ["ip", "netns", "exec", pod, "ping", "-c1", "-W10", "10.22.0.1"]
    subprocess.run(reach, check=True, capture_output=True)
    lab.call("CHECK", body, pod, before=result)
    assert len(links("veth")) == 1 and leaving()
    lab.call("DEL", body, pod, namespace="")
    wait_for(lambda: not links("veth") and not held(lab, plugin) and not leaving())


@pytest.mark.parametrize(
    "point", [point for point in POINTS if point[:4] == "add." and point != "add.claimed"]
)
def test_an_agent_killed_in_an_add_leaves_nothing(lab: Lab, pod: str, point: str) -> None:
    """The runtime is told to try again; its DEL frees everything, and the next ADD works."""
    lab.start(PODWAY_FAULT=point)
    with pytest.raises(CniFailed) as raised:
        lab.call("ADD", conf(lab), pod)
    assert raised.value.code == 11
    lab.process = None
    lab.start()
    lab.call("DEL", conf(lab), pod, namespace="")
    wait_for(lambda: not links("veth") and not held(lab) and not leaving())
    lab.call("ADD", conf(lab), pod)


@pytest.mark.parametrize("point", [point for point in POINTS if point.startswith("delete.")])
def test_an_agent_killed_in_a_del_leaves_nothing(lab: Lab, pod: str, point: str) -> None:
    """What the next start doesn't finish, the repeated DEL does."""
    lab.start(PODWAY_FAULT=point)
    result = lab.call("ADD", conf(lab), pod)
    with pytest.raises((CniFailed, AssertionError)):  # some points come after the answer
        lab.call("DEL", conf(lab), pod, before=result)
        raise AssertionError
    assert lab.process is not None and lab.process.wait(30) == -signal.SIGKILL
    lab.process = None
    lab.start()
    lab.call("DEL", conf(lab), pod, before=result)
    wait_for(lambda: not links("veth") and not held(lab) and not leaving())


def test_uninstall_takes_everything(lab: Lab, pod: str) -> None:
    """Bridge, veth, rules; the reservation goes with the runtime's DEL."""
    lab.start()
    lab.call("ADD", conf(lab), pod)
    lab.stop()
    lab.podway("uninstall")
    assert not links("veth") + links("bridge") and not leaving()
    lab.call("DEL", conf(lab), pod)
    assert not held(lab)


def test_what_the_reference_reserved_is_respected(node: Lab, pod: str) -> None:
    """Files of its own are read: no address twice, and its DEL's job is done by ours."""
    directory = node.data / "n-bridge"
    directory.mkdir(parents=True)
    (directory / "10.22.0.2").write_text("theirs\r\neth0")
    (directory / "last_reserved_ip.0").write_text("10.22.0.9")
    assert node.call("ADD", conf(node), pod)["ips"][0]["address"] == "10.22.0.10/24"
    assert (directory / "last_reserved_ip.0").read_text() == "10.22.0.10"
    node.call("DEL", conf(node), "theirs", namespace="")
    assert not held(node)


def test_what_an_earlier_boot_made_is_gone(lab: Lab, pod: str) -> None:
    """Its addresses are free; a bridge of somebody else's that has the name now stays."""
    lab.start()
    lab.call("ADD", conf(lab), pod)
    lab.stop()
    subprocess.run(["ip", "link", "del", links("veth")[0]], check=True)
    subprocess.run(["ip", "link", "del", "cni7"], check=True)
    with contextlib.closing(sqlite3.connect(lab.state / "node.db")) as database:
        with database:
            (one,) = database.execute("SELECT value FROM piece WHERE id LIKE ?", (f"{pod}/%",)).fetchone()
            boot = json.loads(one)["boot_id"]
            rows = database.execute("UPDATE piece SET value = replace(value, ?, 'earlier')", (boot,))
            assert rows.rowcount == 2
    subprocess.run(["ip", "link", "add", "cni7", "type", "bridge"], check=True)
    lab.start()
    assert links("bridge") == ["cni7"] and not held(lab)
    wait_for(lambda: not leaving())
    assert lab.call("ADD", conf(lab), pod)["ips"][0]["address"] == "10.22.0.3/24"

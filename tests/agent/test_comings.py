"""Nodes come, go, crash, come back as another, and are installed anew under their old name."""

from __future__ import annotations

import shutil
import signal

import pytest
from fleet import NETWORKS, Fleet, Machine, address_of, reaches, until

pytestmark = pytest.mark.kernel


def _knows(machine: Machine, block: str) -> bool:
    return f"{block} via" in machine.run("ip route")


def test_join_leave_and_join_again(nodes: Fleet) -> None:
    """Every node is programmed when a third comes, and forgets it when it is deleted; it may come back."""
    a, b = nodes.machines["a"], nodes.machines["b"]
    c = nodes.add("c", 3)
    c.start()
    theirs = address_of(c.attach("c1", "tunnel"))
    mine = a.attach("a1", "tunnel")
    until(lambda: reaches(a, "a1", theirs))
    (block,) = c.blocks("tunnel")
    until(lambda: _knows(a, block) and _knows(b, block))
    refused = a.podway("delete", "node", "c")
    assert refused.returncode == 1 and "has claimed blocks" in refused.stderr
    assert a.podway("delete", "node", "c", "--force").returncode == 0
    until(lambda: not _knows(a, block) and not _knows(b, block))
    until(lambda: "192.0.2.3" not in a.run("bridge fdb") + a.run("nft list table inet podway"))
    c.says("it was deleted from the cluster, and does nothing more")
    assert c.attach("c2", "tunnel", check=False)["code"] == 11
    c.stop()
    c.start()  # its pod lives, and so its block is claimed again
    until(lambda: reaches(a, "a1", theirs))
    assert c.blocks("tunnel") == [block] and mine


def test_a_node_installed_anew_takes_its_old_blocks_over(nodes: Fleet) -> None:
    """Another machine (address, MAC, everything) under the name of one that is gone."""
    a, b = nodes.machines["a"], nodes.machines["b"]
    for network in NETWORKS:
        b.attach(network, network)
        a.attach(network, network)
    before = {network: b.blocks(network) for network in NETWORKS}
    b.stop(signal.SIGKILL)
    b.run("ip link set eth0 down")
    again = nodes.add("b", 4, "b-again")
    again.start()
    again.says("it is asked")
    until(lambda: "it is asked" not in again.status())
    for network in NETWORKS:
        address = address_of(again.attach(network, network))
        until(lambda network=network, address=address: reaches(a, network, address))  # type: ignore[misc]
        assert again.blocks(network) == before[network]
    until(lambda: "192.0.2.2 " not in a.run("bridge fdb") + a.run("ip route"))


def test_two_machines_with_one_name_are_named_by_both_and_nothing_breaks(nodes: Fleet) -> None:
    a, b = nodes.machines["a"], nodes.machines["b"]
    theirs = address_of(b.attach("b1", "tunnel"))
    a.attach("a1", "tunnel")
    until(lambda: reaches(a, "a1", theirs))
    twin = nodes.add("b", 5, "twin")
    twin.start()
    b.says("was started as b too, and was refused")
    twin.says("this one was refused, and does nothing")
    assert twin.attach("t1", "tunnel", check=False)["code"] == 11
    assert reaches(a, "a1", theirs)
    assert "192.0.2.5" not in a.run("bridge fdb")
    b.attach("b2", "tunnel")


def test_a_crash_and_what_changed_meanwhile(nodes: Fleet) -> None:
    """Killed, its link renumbered, stale things of before left in its kernel: all is brought up to date."""
    a, b = nodes.machines["a"], nodes.machines["b"]
    theirs = address_of(b.attach("b1", "tunnel"))
    a.attach("a1", "tunnel")
    until(lambda: reaches(a, "a1", theirs))
    b.stop(signal.SIGKILL)
    for command in (
        "ip address flush dev eth0",
        "ip address add 192.0.2.66/24 dev eth0",
        "ip link set eth0 address 02:00:00:00:66:66",
        "ip route add 10.244.250.0/24 via 192.0.2.9 proto 112",
        "ip link add pwvold type vxlan id 99 dstport 9999 local 192.0.2.66",
        "ip link set pwvold alias podway:vxlan:old up",
    ):
        b.run(command)
    (tunnel,) = [
        line.split(":")[1].strip()
        for line in b.run("ip -o link show type vxlan").splitlines()
        if "pwvold" not in line
    ]
    b.run(f"bridge fdb append 02:00:00:00:00:77 dev {tunnel} dst 192.0.2.77")
    b.start()
    nodes.settle()
    shown = b.run("ip route") + b.run("ip link") + b.run("bridge fdb")
    assert "10.244.250.0" not in shown and "pwvold" not in shown and "192.0.2.77" not in shown
    until(lambda: reaches(a, "a1", theirs))
    assert "192.0.2.66" in a.run("bridge fdb")


def test_a_lost_state_directory_leaves_living_pods_their_network(nodes: Fleet) -> None:
    a, b = nodes.machines["a"], nodes.machines["b"]
    theirs = address_of(b.attach("b1", "tunnel"))
    a.attach("a1", "tunnel")
    until(lambda: reaches(a, "a1", theirs))
    b.stop()
    shutil.rmtree(b.state)
    b.start()
    until(lambda: "it is asked" not in b.status())
    nodes.settle()
    assert reaches(a, "a1", theirs)
    other = address_of(b.attach("b2", "tunnel"))
    assert other != theirs

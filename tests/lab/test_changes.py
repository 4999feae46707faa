"""A lab that is up is changed: partitions and their end, crashes and reboots, nodes that join and leave."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from changing import until
from lab_tools import BASE, PATIENCE, init_of, kill, podway, processes_of, running, start

pytestmark = pytest.mark.kernel
NAME = f"c{os.getpid()}"


@pytest.fixture(scope="module")
def lab() -> Iterator[str]:
    """Three nodes of one pod each, VXLAN."""
    with running(NAME, "--nodes", "3", "--pods", "1", "--preset", "flannel-vxlan") as name:
        yield name


def inside(target: str, *command: str) -> str:
    return podway("exec", "--name", NAME, target, "--", *command).stdout


def lost(protocols: frozenset[str] = frozenset({"icmp", "tcp", "udp", "mtu"})) -> set[tuple[str, str]]:
    """The pairs that are not reached, by any of ``protocols``."""
    done = podway("test", "--name", NAME, "-o", "json", check=None)
    found = json.loads(done.stdout)["probes"]
    return {(o["from"], o["to"]) for o in found if not o["reached"] and o["protocol"] in protocols}


def all_reached(pairs: int) -> None:
    """Soon: what agents found of damage, an MTU hole say, goes when their next probes find its end."""
    deadline = time.monotonic() + PATIENCE
    while True:
        done = podway("test", "--name", NAME, check=None)
        if done.stdout.splitlines()[-1] == f"{pairs} of {pairs} pairs reached, no NAT inside":
            return
        assert time.monotonic() < deadline, done.stdout


def test_a_partition_parts_two_nodes_and_nobody_else(lab: str) -> None:
    """What stands between them and their pods, both ways; status shows it; heal ends it."""
    assert "node1 ↔ node2, cut" in podway("partition", "--name", lab, "node1", "node2").stdout
    try:
        first, second = ("node1", "node1-1"), ("node2", "node2-1")
        pairs = {(a, b) for a in first for b in second}
        assert lost() == pairs | {(b, a) for a, b in pairs}
        assert "node1 ↔ node2, cut" in podway("status", "--name", lab, check=None).stdout
    finally:
        healed = podway("heal", "--name", lab).stdout
    assert healed == "healed: node1 ↔ node2, cut\n"
    all_reached(36)


def test_one_kind_of_packet_is_held_up(lab: str) -> None:
    """UDP 8472 blocked at node3: tunnels are cut, and nodes reach each other."""
    podway("partition", "--name", lab, "node3", "--only", "udp/8472")
    try:
        found = lost()
    finally:
        podway("heal", "--name", lab, "node3")
    nodes, pods = ("node1", "node2"), ("node1-1", "node2-1")
    through = {(a, "node3-1") for a in (*nodes, *pods)} | {(a, "node3") for a in pods}
    assert found == through | {(b, a) for a, b in through}


def test_large_packets_vanish_silently(lab: str) -> None:
    """A black hole for more than 1400 bytes: only full packets are lost."""
    podway("partition", "--name", lab, "node1", "node2", "--larger", "1400", "--only", "udp/8472")
    try:
        assert lost(frozenset({"icmp", "udp"})) == set()
        assert ("node1-1", "node2-1") in lost(frozenset({"mtu"}))
    finally:
        podway("heal", "--name", lab)


def test_a_crashed_node_is_gone_and_comes_back_as_another_boot(lab: str) -> None:
    """No process, namespace or link of it is left; after the reboot: its old block, a new boot id."""
    blocks = _blocks(lab)
    processes = processes_of(init_of(lab))
    podway("crash", "--name", lab, "node2")
    assert len(processes_of(init_of(lab))) < len(processes)
    names = podway("shell", "--name", lab, stdin="ip netns; ip -o link\n").stdout
    assert "node2" not in names and "node1" in names
    assert "it is off" in podway("status", "--name", lab, check=1).stdout
    assert "reboot node2" in podway("exec", "--name", lab, "node2", "--", "true", check=1).stderr
    all_reached(16)
    podway("reboot", "--name", lab, "node2")
    all_reached(36)
    assert _blocks(lab) == blocks
    boot = ("cat", "/proc/sys/kernel/random/boot_id")
    first = inside("node2", *boot)
    assert first != inside("node1", *boot)
    podway("reboot", "--name", lab, "node2")  # off and on at once
    assert inside("node2", *boot) not in (first, inside("node1", *boot))
    assert "nothing to change" in inside("node2", "podway", "plan")
    all_reached(36)


def _blocks(lab: str) -> dict[str, list[str]]:
    (found,) = json.loads(podway("status", "--name", lab, "-o", "json", check=None).stdout)
    return {node["name"]: node["blocks"] for node in found["nodes"]}


def test_a_node_joins_and_leaves(lab: str) -> None:
    """It takes a free address, reaches all, and leaves nothing: no object, block, route or directory."""
    assert "192.0.2.4/24" in podway("add-node", "--name", lab, "node9", "--pods", "1").stdout
    all_reached(64)
    block = next(one for one in _blocks(lab)["node9"] if "." in one)
    assert block in inside("node1", "ip", "route")
    podway("remove-node", "--name", lab, "node9")
    all_reached(36)
    until("its route goes", lambda: block not in inside("node1", "ip", "route"))
    assert "node9" not in inside("node1", "podway", "get", "node,block")
    assert not (Path(BASE) / lab / "node9").exists()
    assert "node9" not in podway("shell", "--name", lab, stdin="ip netns; ip -o link\n").stdout


def test_a_join_that_was_killed_in_the_middle_is_undone_by_leaving(lab: str) -> None:
    """At any moment: whatever is there of the node goes, and it can join again."""
    for delay in (0.15, 0.3, 0.5):
        joining = start("add-node", "--name", lab, "node8", "--pods", "1")
        time.sleep(delay)
        kill(joining)
        known = (Path(BASE) / lab / "lab.json").read_text()
        if '"node8"' in known:
            podway("remove-node", "--name", lab, "node8")
        names = podway("shell", "--name", lab, stdin="ip netns; ip -o link\n").stdout
        assert "node8" not in names
    all_reached(36)
    podway("add-node", "--name", lab, "node8", "--pods", "1")
    podway("remove-node", "--name", lab, "node8")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["partition", "node11"], "did you mean node1"),
        (["partition", "node1", "lan"], "share no machine"),
        (["partition", "node1", "--only", "8472"], "udp/8472"),
        (["crash", "router"], "no node"),
        (["add-node", "node1"], "already"),
        (["add-node", "node9", "--segment", "lam"], "did you mean lan"),
        (["add-node", "node9", "--mtu", "9000"], "more than its segment"),
        (["add-node", "node9", "--network", "nets"], "no network"),
        (["add-node", "N/9"], "no legal name"),
        (["remove-node", "internet"], "no node"),
    ],
)
def test_a_wrong_change_is_refused_with_what_to_do(lab: str, arguments: list[str], words: str) -> None:
    done = podway(arguments[0], "--name", lab, *arguments[1:], check=1)
    assert words in done.stderr and "Traceback" not in done.stderr

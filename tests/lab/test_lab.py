"""A running lab: every pair is reached and a failure is told as one; nothing of it shows outside."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator

import pytest
from lab_tools import init_of, outside, podway, running, wait_as_before

pytestmark = pytest.mark.kernel
NAME = f"t{os.getpid()}"


@pytest.fixture(scope="module")
def lab() -> Iterator[str]:
    """Two nodes of two pods each; the machine looks the same while it runs, and afterwards."""
    before = outside()
    with running(NAME, "--nodes", "2") as name:
        assert outside() == before
        yield name
    wait_as_before(before)


def inside(target: str, *command: str) -> str:
    return podway("exec", "--name", NAME, target, "--", *command).stdout


def test_every_pair_is_reached_as_itself(lab: str) -> None:
    done = podway("test", "--name", lab)
    # four pods and two nodes with one another, and each of them to the host beyond the router
    assert done.stdout.splitlines()[-1] == "36 of 36 pairs reached, no NAT inside"


def test_json_has_every_probe(lab: str) -> None:
    found = json.loads(podway("test", "--name", lab, "-o", "json").stdout)
    assert found["ok"] and found["pairs"] == found["reached"] == 36
    assert len(found["probes"]) == 36 * 2 * 4
    kinds = {(one["family"], one["protocol"]) for one in found["probes"]}
    assert kinds == {(f, p) for f in ("IPv4", "IPv6") for p in ("icmp", "tcp", "udp", "mtu")}
    by_pair = {(o["from"], o["to"]): o for o in found["probes"] if o["family"] == "IPv4"}
    across = by_pair["node1-1", "node2-1"]
    assert across["path"] == ["node1-1", "node1", "lan", "node2", "node2-1"]
    assert [across["seen"]] == across["expected"] and across["error"] == ""
    out = by_pair["node1-1", "internet"]
    assert out["path"] == ["node1-1", "node1", "lan", "router", "wan", "internet"]
    assert out["seen"] == "192.0.2.1"


def test_commands_run_inside_with_their_exit_code(lab: str) -> None:
    assert "10.244." in inside("node1-1", "ip", "-4", "addr")
    assert "node node2" in inside("node2", "podway", "status")
    assert podway("exec", "--name", lab, "node1", "--", "sh", "-c", "exit 7", check=7)
    wrong = podway("exec", "--name", lab, "node11", "--", "true", check=1)
    assert "no 'node11'" in wrong.stderr and "did you mean node1" in wrong.stderr


def test_without_a_target_the_shell_is_where_the_segments_are(lab: str) -> None:
    assert podway("shell", "--name", lab, "node1", stdin="echo $debian_chroot\n").stdout == f"{lab} node1\n"
    done = podway("shell", "--name", lab, stdin="ip -o link; ip netns\n")
    assert "br-lan" in done.stdout and "node1-1" in done.stdout


def test_status_tells_of_every_node(lab: str) -> None:
    (found,) = json.loads(podway("status", "--name", lab, "-o", "json").stdout)
    assert found["state"] == "up" and found["init"] == init_of(lab)
    assert [(node["name"], node["attached"], node["problems"]) for node in found["nodes"]] == [
        ("node1", 2, []),
        ("node2", 2, []),
    ]
    assert "node1" in podway("status", "--name", lab).stdout


def test_each_node_would_change_nothing(lab: str) -> None:
    for node in ("node1", "node2"):
        assert "nothing to change" in inside(node, "podway", "plan")


def test_a_lost_host_is_told(lab: str) -> None:
    inside("router", "ip", "link", "set", "eth1", "down")
    try:
        done = podway("test", "--name", lab, check=1)
    finally:
        inside("router", "ip", "link", "set", "eth1", "up")
        inside("router", "ip", "addr", "replace", "2001:db8:51::fffe/64", "dev", "eth1", "nodad")
    assert done.stdout.splitlines()[-1] == "30 of 36 pairs reached, no NAT inside"
    assert "node1-1 → internet  IPv4 icmp" in done.stdout


@pytest.mark.skipif(shutil.which("nft") is None, reason="needs the nft command")
def test_a_translated_sender_is_told(lab: str) -> None:
    chain = "{ type nat hook postrouting priority 90; policy accept; }"
    inside("node1", "nft", f"add table ip other; add chain ip other c {chain}")
    inside("node1", "nft", "add rule ip other c ip saddr 10.244.0.0/16 oifname eth0 masquerade")
    try:
        done = podway("test", "--name", lab, check=1)
        found = json.loads(podway("test", "--name", lab, "-o", "json", check=1).stdout)
    finally:
        inside("node1", "nft", "delete", "table", "ip", "other")
    assert done.stdout.splitlines()[-1] == "36 of 36 pairs reached, 6 seen under a wrong address"
    wrong = {(one["from"], one["to"], one["protocol"]) for one in found["probes"] if one["nat"]}
    # both pods of node1 to the node and both pods of the other, whatever earlier runs left in conntrack
    pairs = [(f"node1-{n}", to) for n in (1, 2) for to in ("node2", "node2-1", "node2-2")]
    assert wrong == {(*pair, protocol) for pair in pairs for protocol in ("icmp", "tcp", "udp", "mtu")}
    podway("test", "--name", lab)


@pytest.mark.skipif(shutil.which("nft") is None, reason="needs the nft command")
def test_no_direction_answers_for_the_other(lab: str) -> None:
    chain = "type filter hook forward priority -10; policy accept;"
    rules = "ct state established,related accept; iifname eth0 ip daddr 10.244.0.0/16 drop;"
    inside("node1", "nft", f"table ip other {{ chain c {{ {chain} {rules} }}; }}")
    try:
        found = json.loads(podway("test", "--name", lab, "-o", "json", check=1).stdout)
    finally:
        inside("node1", "nft", "delete", "table", "ip", "other")
    lost = {(one["from"], one["to"], one["protocol"]) for one in found["probes"] if not one["reached"]}
    pairs = [(sender, f"node1-{n}") for sender in ("node2", "node2-1", "node2-2") for n in (1, 2)]
    assert lost == {(*pair, protocol) for pair in pairs for protocol in ("icmp", "tcp", "udp", "mtu")}


def test_a_name_is_taken_once(lab: str) -> None:
    again = podway("up", "--name", lab, check=1)
    assert "already" in again.stderr and "--name" in again.stderr
    assert "30 of" not in podway("test", "--name", lab).stdout

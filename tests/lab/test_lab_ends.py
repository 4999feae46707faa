"""However a lab ends - down, killed, interrupted at any moment - nothing of it is left."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from lab_tools import (
    BASE,
    PODWAY,
    init_of,
    kill,
    left_of,
    networks_of,
    outside,
    podway,
    processes_of,
    running,
    start,
    wait_as_before,
    wait_for_line,
    wait_gone,
    wait_let_go,
)

from podway.model.resources import PRESETS

pytestmark = pytest.mark.kernel
NAME = f"e{os.getpid()}"

TWO_SEGMENTS = """
segments:
  a: {cidrs: [192.0.2.0/24]}
  b: {cidrs: [203.0.113.0/24], mtu: 1400}
routers: {r: {segments: [a, b]}}
nodes:
  n1: {segment: a, mtu: 1300, pods: [web]}
  n2: {segment: b, pods: 1}
documents:
- apiVersion: podway.dev/v1
  kind: Network
  metadata: {name: other}
  spec: {preset: flannel-host-gw, pools: [{cidr: 10.200.0.0/16}]}
"""


def test_killing_init_ends_everything_but_the_directory() -> None:
    podway("up", "--name", NAME, "--nodes", "2")
    init = init_of(NAME)
    processes = processes_of(init)
    os.kill(init, signal.SIGKILL)
    wait_gone(init)
    assert left_of(processes, NAME) == [str(BASE / NAME)]
    assert "dead" in podway("status", "--name", NAME, check=1).stdout
    assert "ended" in podway("test", "--name", NAME, check=1).stderr
    assert "was dead" in podway("down", "--name", NAME).stdout
    assert left_of(processes, NAME) == []


@pytest.mark.parametrize("words", ["segments", "agent on every", "attached"])
def test_a_starter_that_is_killed_takes_its_lab_along(words: str) -> None:
    starter = start("up", "--name", NAME, "--nodes", "2")
    wait_for_line(starter, words)
    init = init_of(NAME)
    processes = processes_of(init)
    kill(starter)
    wait_gone(init)
    podway("down", "--name", NAME)
    assert left_of(processes, NAME) == []


@pytest.mark.parametrize("words", ["segments", "attached", "every pair"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_demo_leaves_nothing(number: signal.Signals, words: str) -> None:
    before = outside()
    demo = start("demo", "--nodes", "2", private=True)
    wait_for_line(demo, words)
    processes = processes_of(init_of("demo", f"/proc/{demo.pid}/root"))
    networks = networks_of(pid for pid, _ in processes)
    assert kill(demo, number) == 128 + number
    assert left_of(processes, "demo") == []
    wait_let_go(networks)
    wait_as_before(before)


@pytest.mark.parametrize("delay", [0.05, 0.2, 0.35])
def test_interrupted_before_its_first_word_a_lab_leaves_nothing(delay: float) -> None:
    starter = start("up", "--name", NAME, "--nodes", "2")
    time.sleep(delay)
    kill(starter, signal.SIGINT)
    assert left_of(frozenset(), NAME) == []


def test_the_tour_ends_with_all_transports_in_one_table() -> None:
    """``make lab``: one host, host-gw, VXLAN and BGP; each reaches all its pairs, and nothing is left."""
    done = podway("demo")
    lines = [line.split() for line in done.stdout.splitlines()]
    rows = {line[0]: " ".join(line) for line in lines if line and line[0] in PRESETS}
    assert list(rows) == ["docker", "flannel-host-gw", "flannel-vxlan", "calico-bgp"]
    assert "16 of 16" in rows["docker"] and "1500 bytes nothing 4 links" in rows["docker"]
    assert "81 of 81" in rows["flannel-host-gw"] and "1500 bytes nothing" in rows["flannel-host-gw"]
    assert "81 of 81" in rows["flannel-vxlan"] and "1450 bytes VXLAN 1, UDP 8472" in rows["flannel-vxlan"]
    assert "81 of 81" in rows["calico-bgp"] and "1500 bytes nothing" in rows["calico-bgp"]
    titles = [line for line in done.stdout.splitlines() if line.startswith("Its node")]
    assert [("no bridge" in line) for line in titles] == [False, False, False, True]
    assert "1 node, 3 pods up" in done.stdout
    assert not os.path.lexists(BASE / "demo")


def test_two_labs_side_by_side_do_not_meet(tmp_path: Path) -> None:
    other = f"{NAME}b"
    directory = tmp_path / "lab"
    with (
        running(NAME, "--nodes", "2"),
        running(other, "--nodes", "2", "--pods", "1", "--dir", str(directory)),
    ):
        assert "36 of 36" in podway("test", "--name", NAME).stdout
        # the same addresses, its own network
        assert "16 of 16" in podway("test", "--name", other).stdout
        both = podway("exec", "node1", "--", "true", check=1)
        assert "several labs" in both.stderr and other in both.stderr
        assert (directory / "node1" / "cni.sock").exists()
        podway("down", "--name", NAME)
        assert "16 of 16" in podway("test", "--name", other).stdout
    assert not directory.exists()


def test_down_all_ends_dead_and_living_labs_alike(tmp_path: Path) -> None:
    """In a mount namespace of its own, so that it is only this test's labs that end."""
    script = f"""
set -e
mount -t tmpfs tmpfs /run
{" ".join(map(_quoted, PODWAY))} lab up --name one --nodes 1 --pods 1
{" ".join(map(_quoted, PODWAY))} lab up --name two --nodes 1 --pods 1 --dir {tmp_path}/two
kill -9 $(cut -d' ' -f1 /run/podway/lab/one/init)
{" ".join(map(_quoted, PODWAY))} lab down --all
test ! -e /run/podway
test ! -e {tmp_path}/two
"""
    done = subprocess.run(["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "lab one was dead" in done.stdout and "lab two ended" in done.stdout


def _quoted(word: str) -> str:
    return f"'{word}'"


def test_a_file_says_what_a_lab_is(tmp_path: Path) -> None:
    path = tmp_path / "lab.yaml"
    path.write_text(TWO_SEGMENTS)
    with running(NAME, "-f", str(path)):
        assert "mtu 1300" in podway("exec", "--name", NAME, "web", "--", "ip", "link", "show", "eth0").stdout
        assert "10.200." in podway("exec", "--name", NAME, "n2-1", "--", "ip", "addr").stdout
        status = podway("status", "--name", NAME, check=1).stdout
        assert "not on-link" in " ".join(status.split())  # host-gw can't cross a router, and says so
        result = podway("test", "--name", NAME, check=1).stdout.splitlines()
        assert any(line.startswith("web → n2-1  IPv4 icmp") for line in result)
        assert result[-1] == "6 of 12 pairs reached, no NAT inside"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["up", "--preset", "flanel-host-gw"], "did you mean flannel-host-gw"),
        (["up", "--name", "A/b"], "no name of a lab"),
        (["up", "--nodes", "0"], "--nodes"),
        (["up", "-f", "/nowhere.yaml"], "/nowhere.yaml"),
        (["up", "--nodes", "2", "-f", "-"], "-f says everything"),
        (["up", "--dir", "/tmp/" + "x" * 100], "too long"),
        (["down", "--name", "nobody"], "no lab 'nobody'"),
        (["down", "--name", "one", "--all"], "--all ends every lab"),
        (["test", "--name", "nobody"], "no lab 'nobody'"),
    ],
)
def test_a_wrong_wish_is_refused_with_what_to_do(arguments: list[str], words: str) -> None:
    done = podway(*arguments, check=None)
    assert done.returncode in (1, 2)
    assert words in done.stderr and "Traceback" not in done.stderr


def test_a_wrong_file_says_the_line(tmp_path: Path) -> None:
    path = tmp_path / "lab.yaml"
    path.write_text(TWO_SEGMENTS.replace("segment: b, pods", "segmnt: b, pods"))
    done = podway("up", "--name", NAME, "-f", str(path), check=1)
    assert f"{path}:8: nodes.n2.segmnt: unknown key (did you mean segment?)" in done.stderr

"""Proves that whatever stdin and environment hold, the answer is one document, in time, and nothing leaks.

The plugins' code and a real engine on a real kernel, in this process: what the agent runs for a call.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from calls import PLUGINS, SLOWEST, Calls, is_one_document

from podway.cni import dropin, plugin
from podway.cni.dropin.steps import drive
from podway.cni.protocol import Answer, Call
from podway.kernel import namespaces
from podway.node import hostlocal
from podway.node.engine import NodeEngine, open_engine
from podway.store import Record, open_store

pytestmark = pytest.mark.kernel

FEW, MANY = 500, 20_000
NETWORK = {"pools": [{"cidr": "10.244.0.0/16"}], "cooldown": 0}


@pytest.fixture
def engine(in_namespace: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NodeEngine]:
    """A node with a network called "pods"; relative paths and host-local's default are in ``tmp_path``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hostlocal, "DIRECTORY", str(tmp_path / "data"))
    (tmp_path / "resolv.conf").write_text("nameserver 10.9.0.1\n")
    (tmp_path / "bin").mkdir()
    subprocess.run(["ip", "link", "add", "fm0", "type", "veth", "peer", "name", "fm1"], check=True)
    subprocess.run(["ip", "link", "add", "fd0", "type", "veth", "peer", "name", "fd1"], check=True)
    url = f"sqlite:{tmp_path}/store.db"
    store = open_store(url, create=True)
    store.create(Record(kind="Network", name="pods", spec=json.dumps(NETWORK).encode()))
    store.close()
    with open_engine("a", str(tmp_path / "state"), url) as opened:
        yield opened


def answer(call: Call, engine: NodeEngine) -> Answer:
    """As the agent and the in-process command choose."""
    if dropin.name_of(call) and call.env.get("CNI_COMMAND") != "VERSION":
        return drive(dropin.steps(call), engine)
    return plugin.handle(call, engine)


def attached(engine: NodeEngine) -> list[str]:
    """Attachments that the node knows; a bridge belongs to no container."""
    pieces = [name for name, one in engine.pieces.known.items() if one.container]
    return [*engine.attachments.endpoints, *pieces]


def stands(directory: Path) -> list[str]:
    """Links but for bridges, which outlive pods, nftables elements, and addresses that are given."""
    links = json.loads(subprocess.run(["ip", "-j", "-d", "link"], capture_output=True, check=True).stdout)
    names = sorted(one["ifname"] for one in links if one.get("linkinfo", {}).get("info_kind") != "bridge")
    rules = subprocess.run(["nft", "-s", "list", "ruleset"], capture_output=True, text=True, check=True)
    elements = [line for line in rules.stdout.splitlines() if "elements" in line or "veth" in line]
    files = [str(one) for one in directory.rglob("*.*.*.*") if one.is_file()]
    return [*names, *elements, *files]


def run(name: str, count: int, seed: int, engine: NodeEngine, pod: int, directory: Path) -> None:
    """``count`` calls, and then nothing is left of them."""
    caller = os.open(namespaces.OWN, os.O_RDONLY | os.O_CLOEXEC)
    source = Calls(name, seed, directory, pod, caller)
    before = stands(directory)
    open_before = made = 0
    try:
        for number in range(count):
            if number == count // 2:  # sockets that are kept have been opened by now, at their first use
                open_before = len(os.listdir("/proc/self/fd"))
            call, started = source.call(), time.monotonic()
            given = answer(call, engine)
            assert time.monotonic() - started < SLOWEST, (number, call)
            is_one_document(call, given)
            if given.exit_code == 0 and call.env["CNI_COMMAND"] == "ADD":
                made += 1
                env = {**call.env, "CNI_COMMAND": "DEL"}
                # a pod whose path leads nowhere is found by the descriptor alone, which DEL then has too
                found = -1 if env["CNI_NETNS"] == source.path else pod
                gone = answer(
                    Call(argv0=name, env=env, stdin=call.stdin, caller_fd=caller, pod_fd=found), engine
                )
                assert gone.exit_code == 0, (number, call, gone)
            assert not attached(engine), (number, call, given)
        assert made > count // 50 or name not in (
            "podway-cni",
            "bridge",
            "ptp",
            "host-local",
            "loopback",
            "macvlan",
            "tap",
        )
        engine.attachments.burial.complete()
        assert stands(directory) == before
        assert len(os.listdir("/proc/self/fd")) == open_before
        # a directory may be called as a command is; a shell would have made the file
        assert not list(directory.rglob("MARK*"))
    finally:
        os.close(caller)


@pytest.mark.parametrize("name", PLUGINS)
def test_a_few_calls(name: str, engine: NodeEngine, pod_namespace: int, tmp_path: Path) -> None:
    run(name, FEW, 0, engine, pod_namespace, tmp_path)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", PLUGINS)
def test_many_calls(name: str, engine: NodeEngine, pod_namespace: int, tmp_path: Path) -> None:
    run(name, MANY, 1, engine, pod_namespace, tmp_path)

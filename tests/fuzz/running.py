"""Runs thousands of calls of one name through the plugins' code and a real engine on a real kernel, in this
process, as an agent does; after each the pod must be as it was, and at the end the node too.
"""

from __future__ import annotations

import ipaddress
import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from calls import CHAINED, INTERFACE, NODE_END, SLOWEST, Calls, is_one_document
from looks import Look, State

from podway.cni import plugin
from podway.cni.install import EXECUTABLE
from podway.cni.protocol import Answer, Call
from podway.cni.steps import drive
from podway.kernel import namespaces
from podway.node import hostlocal
from podway.node.engine import NodeEngine, open_engine
from podway.store import Record, open_store

NETWORK = {"pools": [{"cidr": "10.244.0.0/16"}], "cooldown": 0}


@contextmanager
def node(directory: Path, patch: pytest.MonkeyPatch) -> Iterator[NodeEngine]:
    """A node with a network called "pods"; relative paths and host-local's default are in ``directory``."""
    patch.chdir(directory)
    patch.setattr(hostlocal, "DIRECTORY", str(directory / "data"))
    (directory / "resolv.conf").write_text("nameserver 10.9.0.1\n")
    (directory / "bin").mkdir()
    for name, peer in (("fm0", "fm1"), ("fd0", "fd1")):
        _run("ip", "link", "add", name, "type", "veth", "peer", "name", peer)
    _run("ip", "link", "set", "fm0", "addrgenmode", "none", "up")  # a VLAN's master has to be
    url = f"sqlite:{directory}/store.db"
    store = open_store(url, create=True)
    store.create(Record(kind="Network", name="pods", spec=json.dumps(NETWORK).encode()))
    store.close()
    with open_engine("a", str(directory / "state"), url) as opened:
        yield opened


def _run(*arguments: str) -> str:
    return subprocess.run(arguments, capture_output=True, check=True, text=True).stdout


def answer(call: Call, engine: NodeEngine) -> Answer:
    """As the in-process command gives it."""
    return drive(plugin.steps(call), engine)


def _prepared(name: str, pod: int) -> None:
    """A pod that has been used before, for a chained plugin with the interface that it comes after."""
    ifname, mac, address = INTERFACE
    lines = ["link set lo up"]
    if name != EXECUTABLE:  # which brings it up itself, where a runtime's loopback hasn't yet
        lines.append("link set lo down")  # 127.0.0.1 stays
    if name in CHAINED:
        peer = f"name {ifname} address {mac} netns /proc/{os.getpid()}/fd/{pod}"
        _run("ip", *f"link add {NODE_END} type veth peer {peer}".split())
        # no address that comes, and is looked for, in its own time
        _run("ip", "link", "set", NODE_END, "addrgenmode", "none", "up")
        lines += [f"addr add {address} dev {ifname}", f"link set {ifname} addrgenmode none up"]
        lines += [f"route add default via 10.9.0.1 dev {ifname}"]
    with namespaces.entered(pod):
        for line in lines:
            _run("ip", *line.split())


class Run:
    """One name's calls on one node and one pod, an open descriptor."""

    def __init__(self, name: str, seed: int, engine: NodeEngine, pod: int, directory: Path) -> None:
        self.name, self.engine, self.pod, self.directory = name, engine, pod, directory
        _prepared(name, pod)
        self.caller = os.open(namespaces.OWN, os.O_RDONLY | os.O_CLOEXEC)
        self.source = Calls(name, seed, directory, pod, self.caller)
        self.look, self.node = Look(pod), Look(self.caller)
        self.made = 0

    def close(self) -> None:
        """Let go of both namespaces."""
        self.look.close()
        self.node.close()
        os.close(self.caller)

    def calls(self, count: int) -> None:
        """``count`` of them, and then nothing is left."""
        before, settings = self._stands(), self.look.everything()
        pod, open_before = self.look(), 0
        for number in range(count):
            if number == count // 2:  # sockets that are kept have been opened by now, at their first use
                open_before = len(os.listdir("/proc/self/fd"))
            call, started = self.source.call(), time.monotonic()
            given = answer(call, self.engine)
            assert time.monotonic() - started < SLOWEST, (number, call)
            is_one_document(call, given)
            kept = ()
            if given.exit_code == 0 and call.env["CNI_COMMAND"] == "ADD":
                self.made += 1
                kept = self._delete(call)
            assert not self._attached(), (number, call, given)
            after = self.look()
            changed = _difference(pod, after, kept)
            assert not changed, (number, changed, given, call)
            pod = after
        self.engine.attachments.burial.complete()
        assert not (changed := _difference(before, self._stands())), changed
        if self.name != "tuning":
            assert self.look.everything() == settings
        assert len(os.listdir("/proc/self/fd")) == open_before
        # a directory may be called as a command is; a shell would have made the file
        assert not list(self.directory.rglob("MARK*"))

    def _delete(self, call: Call) -> tuple[str, ...]:
        """After an ADD that succeeded; the kinds of things that stay as they are now: tuning's sysctls."""
        env = {**call.env, "CNI_COMMAND": "DEL"}
        # a pod whose path leads nowhere is found by the descriptor alone, and lo too
        by_path = env["CNI_NETNS"] == self.source.path and self.name != "loopback" and self.made % 2
        found = -1 if by_path else self.pod
        again = Call(argv0=self.name, env=env, stdin=call.stdin, caller_fd=self.caller, pod_fd=found)
        gone = answer(again, self.engine)
        assert gone.exit_code == 0, (call, gone)
        self.engine.attachments.burial.complete()
        return ("setting",) if self.name == "tuning" else ()

    def _attached(self) -> list[str]:
        """Attachments that the node knows; a bridge belongs to no container."""
        pieces = [name for name, one in self.engine.pieces.known.items() if one.container]
        return [*self.engine.attachments.endpoints, *pieces]

    def _stands(self) -> State:
        """On the node, but for bridges, which outlive pods, and the link of another plugin's, which takes
        along what stands on it; nftables elements; addresses that are given."""
        links = json.loads(_run("ip", "-j", "-d", "link"))
        outlive = [
            one["ifindex"]
            for one in links
            if one.get("linkinfo", {}).get("info_kind") == "bridge" or one["ifname"] == NODE_END
        ]
        rules = _run("nft", "-s", "list", "ruleset").splitlines()
        elements = [line for line in rules if "elements" in line or "veth" in line]
        files = sorted(str(one) for one in self.directory.rglob("*[.:]*") if _is_address(one.name))
        return {**self.node(without=outlive), "nftables": elements, "files": files}


def _difference(before: State, after: State, kept: tuple[str, ...] = ()) -> list[str]:
    """Lines that went (-) or came (+), but of the kinds in ``kept``."""
    if before == after:
        return []
    pairs = [(set(before[kind]), set(after[kind])) for kind in before if kind not in kept]
    gone = [f"- {line}" for old, new in pairs for line in old - new]
    return gone + [f"+ {line}" for old, new in pairs for line in new - old]


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True

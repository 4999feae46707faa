"""Lives of what stands in pods alone, on this kernel or the guest's.

The engine is opened in this process for each call, as without an agent: a crash is a fork that is killed
and a start is the next call."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.built import built
from dropin_engine import Here
from dropin_lab import CniFailed, ip

from bench import reference
from podway.node import faults, uninstall
from podway.node.engine import open_engine
from podway.store import open_store

#: name → its own options
MAKERS: dict[str, dict[str, Any]] = {
    "macvlan": {"master": "up0"},
    "ipvlan": {"master": "up0"},
    "vlan": {"master": "up0", "vlanId": 7},
    "host-device": {"device": "dev0"},
    "dummy": {},
    "tap": {},
}
ONE_POD = ("host-device", "vlan")  # of a device, or of a VLAN of a master, there is one
CHAINED: dict[str, dict[str, Any]] = {"sbr": {}, "vrf": {"vrfname": "blue"}}
ADD_POINTS = [one for one in faults.POINTS if one.startswith("add.") and one != "add.claimed"]
DELETE_POINTS = [one for one in faults.POINTS if one.startswith("delete.")] + ["inside.undone"]
HOWS = ["DEL", "GC", "start"]
_MADE = ["inside.begun", "inside.made"]


def cuts(names: Iterable[str]) -> list[tuple[str, str, str]]:
    """(name, point, what comes then) for each point, in turn."""
    hows = itertools.cycle(HOWS)
    return [(name, point, next(hows)) for name in names for point in points(name)]


def every(names: Iterable[str]) -> list[tuple[str, str, str]]:
    """All of them."""
    return [(name, point, how) for name in names for point in points(name) for how in HOWS]


def points(name: str) -> list[str]:
    """Where a life of this name's can be cut off."""
    begun = [] if name in CHAINED else _MADE[1:] if name == "host-device" else _MADE
    return [*ADD_POINTS, *begun, *DELETE_POINTS]


def foreign(pod: str) -> None:
    """What is somebody else's on node and in pod, and must stay: links, a rule, a table."""
    for command in (
        "ip link add up0 type veth peer name lan0",
        "ip link add dev0 type veth peer name dev1",
        "ip link set up0 up",
        "ip link set lan0 up",
        f"ip -n {pod} link add own0 type veth peer name own1",
        f"ip -n {pod} rule add from 10.27.0.2 table 77",
        f"ip -n {pod} route add blackhole 192.0.2.0/24 table 100",
    ):
        subprocess.run(command.split(), check=True)


def state(pod: str) -> dict[str, Any]:
    """What can be seen of a pod and of the node; what comes and goes by itself is left out."""
    inside, node = (ip("link", inside=where) for where in (pod, ""))
    words = ("ifname", "ifalias", "master", "address")
    routes = [
        one for family in ("-4", "-6") for one in ip(family, "route", "show", "table", "all", inside=pod)
    ]
    rules = [one for family in ("-4", "-6") for one in ip(family, "rule", inside=pod)]
    addresses = ip("addr", inside=pod)
    return {
        "links": sorted(str([one.get(word) for word in words]) for one in inside),
        "node": sorted(str([one.get(word) for word in words[:2]]) for one in node),
        "addresses": sorted(
            f"{link['ifname']} {one['local']}"
            for link in addresses
            for one in link["addr_info"]
            if not one["local"].startswith("fe80:")
        ),
        "routes": sorted(
            str([one.get(word) for word in ("dst", "gateway", "dev", "table")])
            for one in routes
            if one.get("table") != "local" and not one["dst"].startswith(("fe80:", "ff00:", "multicast"))
        ),
        # the kernel's own, which comes with a namespace's first VRF and stays, names no table
        "rules": sorted(f"{one['priority']} {one['src']} {one['table']}" for one in rules if "table" in one),
    }


class Lives:
    """One node and its pods; ``name`` is the plugin that it is about, ``version`` that of its calls."""

    def __init__(self, directory: Path, name: str, version: str = "1.1.0") -> None:
        self.directory, self.name, self.version = directory, name, version
        self.data = directory / "networks"
        self.url = f"sqlite:{directory}/store.db"
        open_store(self.url, create=True).close()

    @property
    def main(self) -> dict[str, Any]:
        """The plugin that makes the interface: itself, or a bridge before it."""
        ranges = [[{"subnet": "10.27.0.0/24"}], [{"subnet": "fd00:27::/64"}]]
        routes = [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
        ipam = {"type": "host-local", "dataDir": str(self.data), "ranges": ranges, "routes": routes}
        kind = "bridge" if self.name in CHAINED else self.name
        own = {"bridge": "cni7", "isGateway": True} if self.name in CHAINED else MAKERS[self.name]
        return {"cniVersion": self.version, "name": "lives", "type": kind, "ipam": ipam, **own}

    @property
    def conf(self) -> dict[str, Any]:
        """Of the plugin that it is about."""
        if self.name in MAKERS:
            return self.main
        return {"cniVersion": self.version, "name": "lives", "type": self.name, **CHAINED[self.name]}

    @contextmanager
    def node(self) -> Iterator[Here]:
        """An engine, from its start on; what it has doomed is gone at the end."""
        with open_engine("a", str(self.directory / "state"), self.url) as engine:
            yield Here(engine, self.directory)
            engine.attachments.burial.complete()

    def call(self, command: str, conf: dict[str, Any], pod: str, before: Any = None) -> dict[str, Any]:
        """By ours."""
        with self.node() as here:
            return here.call(command, conf, pod, before=before)

    def start(self) -> None:
        """What an agent's does."""
        with self.node():
            pass

    def collect(self, *valid: str) -> None:
        """GC by ours, of all plugins."""
        keep = [{"containerID": one, "ifname": "eth0"} for one in valid]
        for conf in (self.conf, self.main)[: 2 if self.name in CHAINED else 1]:
            asked = {**conf, "cniVersion": "1.1.0", "cni.dev/valid-attachments": keep}
            self.call("GC", asked, (valid or ("",))[0])

    def killed(self, point: str, command: str, pod: str, before: Any = None) -> None:
        """A call of the plugin's that is killed at a point."""
        pid = os.fork()
        if pid == 0:
            try:
                faults._armed = point
                self.call(command, self.conf, pod, before)
            finally:
                os._exit(1)
        _, status = os.waitpid(pid, 0)
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, (point, status)

    def lose(self) -> None:
        """The node's database."""
        for file in (self.directory / "state").glob("node.db*"):
            file.unlink()

    def attached(self, pod: str) -> Any:
        """The result of all but the last plugin of a chain, None where there is one alone."""
        return self.call("ADD", self.main, pod) if self.name in CHAINED else None

    def held(self) -> list[str]:
        """Addresses that are given out."""
        found = (self.data / "lives").glob("*") if self.data.exists() else []
        return sorted(one.name for one in found if one.name[0].isdigit() or one.name.startswith("fd"))


def theirs(lives: Lives, command: str, conf: dict[str, Any], pod: str, before: Any = None) -> Any:
    """The same call of the current reference plugin's executable, or Debian's, which has no 1.1.0."""
    current = lives.version == "1.1.0"
    directory = built(reference.NAME, reference.MODULE, reference.PROOF) if current else reference.DEBIAN
    env = {
        "PATH": os.environ["PATH"],
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": pod,
        "CNI_NETNS": f"/run/netns/{pod}",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": str(directory),
    }
    body = json.dumps(conf if before is None else {**conf, "prevResult": before}).encode()
    done = subprocess.run([directory / conf["type"]], input=body, env=env, capture_output=True)
    document = json.loads(done.stdout) if done.stdout else {}
    if done.returncode:
        raise CniFailed(document)
    return document


def cut_off_and_recovered(lives: Lives, pod: str, point: str, how: str) -> None:
    """Killed at ``point``, then ``how`` (DEL, GC, or a start alone): everything is as before."""
    foreign(pod)
    before = lives.attached(pod)
    found, held = state(pod), lives.held()
    of_add = point in (*ADD_POINTS, *_MADE)
    if of_add:
        lives.killed(point, "ADD", pod, before)
    else:
        result = lives.call("ADD", lives.conf, pod, before)
        lives.killed(point, "DEL", pod, result)
    lives.start()
    # it stands as a whole, and only the answer was lost; or an address is held; or nothing has begun
    still = point in ("add.finished", "add.begin", "delete.begin")
    if how == "GC":
        lives.collect()
    elif how == "DEL" or still:
        lives.call("DEL", lives.conf, pod, before)
    if how == "GC" and lives.name in CHAINED:
        assert lives.held() == []  # the bridge's pod is valid no more, too
        return
    assert state(pod) == found
    if how != "start":
        assert lives.held() == held
    result = lives.call("ADD", lives.conf, pod, before)
    lives.call("CHECK", lives.conf, pod, result)


def lost_and_freed(lives: Lives, pod: str, other: str) -> None:
    """Without its database a start touches nothing, CHECK holds, and DEL takes what is the pod's alone."""
    foreign(pod)
    bare = state(pod)
    results = {}
    for one in (pod, other) if lives.name not in ONE_POD else (pod,):
        before = lives.attached(one)
        results[one] = lives.call("ADD", lives.conf, one, before)
    stands = [state(one) for one in (pod, other)]
    lives.lose()
    lives.start()
    assert [state(one) for one in (pod, other)] == stands
    _freed(lives, pod, other, results[pod], bare)


def uninstalled(lives: Lives, pod: str) -> None:
    """Nothing of Podway's is left in a living pod, nor on the node but for addresses, which DEL frees."""
    foreign(pod)
    found = state(pod)
    before = lives.attached(pod)
    lives.call("ADD", lives.conf, pod, before)
    with lives.node() as here:
        kernel, database = here.engine.kernel, here.engine.database
        uninstall.run(kernel, database, uninstall.plan(kernel, database))
    assert state(pod) == found


def taken_over(lives: Lives, pod: str, other: str) -> None:
    """What the reference plugins made: CHECK holds, DEL and GC take what is the pod's, and no other's."""
    foreign(pod)
    bare = state(pod)
    results = {}
    for one in (pod, other) if lives.name not in ONE_POD else (pod,):
        results[one] = theirs(lives, "ADD", lives.main, one)
        if lives.name in CHAINED:
            results[one] = theirs(lives, "ADD", lives.conf, one, results[one])
    kept = state(other)
    lives.collect(pod, other)
    assert state(other) == kept
    _freed(lives, pod, other, results[pod], bare)
    if other in results:
        lives.collect(pod)
        assert lives.held() == []


def _freed(lives: Lives, pod: str, other: str, result: Any, bare: dict[str, Any]) -> None:
    """By CHECK and DEL of all plugins of the chain; ``bare``: what was there before any of them."""
    kept, held = state(other), lives.held()
    chain = [lives.conf, lives.main] if lives.name in CHAINED else [lives.conf]
    for conf in reversed(chain):
        lives.call("CHECK", conf, pod, result)
    for conf in chain:
        for _ in range(2):
            lives.call("DEL", conf, pod, result)
        if lives.name in CHAINED and conf is lives.conf:
            after = state(pod)
            assert after["rules"] == bare["rules"]
            assert "blue" not in str(after["links"])
            assert any("10.27.0." in one for one in after["addresses"])
            assert any("fd00:27::" in one for one in after["addresses"])
    after = state(pod)
    outlives = [one for one in after["node"] if "cni7" in one]  # a bridge does
    others = [one for one in after["node"] if one not in outlives and one not in bare["node"]]
    assert {**after, "node": ""} == {**bare, "node": ""}
    assert all("veth" in one for one in others) and len(others) <= 1  # the other pod's
    assert {key: one for key, one in state(other).items() if key != "node"} == {
        key: one for key, one in kept.items() if key != "node"
    }
    assert len(lives.held()) == len(held) - 2

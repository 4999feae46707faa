"""A lab whose network is changed while it runs: apply, wait until it has changed, look."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lab_tools import PATIENCE, PODWAY, init_of, processes_of
from streams import Pod

from podway.lab.lab import command, environment
from podway.lab.place import find
from podway.model import documents, stored
from podway.model.resources import Paths
from podway.plan.transport import TUNNELS
from podway.plan.way import Way, by_family, wishes
from podway.store import open_store

POOLS = [{"cidr": "10.244.0.0/16"}, {"cidr": "fd00:10:244::/48"}]


def document(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    """A resource, as files have it."""
    return {"apiVersion": "podway.dev/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


class Lab:
    """A running lab of nodes node1 to nodeN with a pod each, by name."""

    def __init__(self, name: str, count: int) -> None:
        self.name = name
        self.nodes = tuple(f"node{number}" for number in range(1, count + 1))
        self.pod_names = [f"{node}-1" for node in self.nodes]

    def inside(self, target: str, *words: str, check: int | None = 0) -> str:
        """What a command prints there, without the start of a ``podway lab exec`` before each."""
        place = find(self.name)
        done = subprocess.run(
            command(place, target, words), capture_output=True, text=True, env=environment(place, target)
        )
        assert check is None or done.returncode == check, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def pods(self) -> list[Pod]:
        """The lab's pods with their addresses."""
        place = find(self.name)
        found = []
        for name in self.pod_names:
            lines = json.loads(self.inside(name, "ip", "-j", "address", "show", "dev", "eth0"))[0][
                "addr_info"
            ]
            addresses = [one["local"] for one in lines if one["scope"] == "global"]
            found.append(Pod(name, str(place.namespace(name)), addresses))
        return found

    def apply(self, spec: dict[str, Any], *arguments: str) -> None:
        """``podway apply`` of the lab's network with another spec."""
        text = json.dumps(document("Network", "pods", {"pools": POOLS} | spec))
        command = [*PODWAY, "apply", "--store", find(self.name).store, "-f", "-", *arguments]
        done = subprocess.run(command, input=text, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def devices(self, node: str) -> list[str]:
        """The tunnels' devices of a node, which all have an alias of Podway's."""
        return [
            one["ifname"]
            for one in json.loads(self.inside(node, "ip", "-j", "-d", "link", "show"))
            if one.get("linkinfo", {}).get("info_kind") in ("vxlan", "wireguard", "ipip", "ip6tnl")
            and one.get("ifalias")
        ]

    def sizes(self, pod: str) -> set[int]:
        """The MTUs that a pod's interface and its routes have."""
        links = json.loads(self.inside(pod, "ip", "-j", "link", "show", "dev", "eth0"))
        routes = [
            route
            for family in ("-4", "-6")
            for route in json.loads(self.inside(pod, "ip", family, "-j", "route", "show", "dev", "eth0"))
        ]
        return {links[0]["mtu"]} | {
            m["mtu"] for route in routes for m in route.get("metrics", ()) if "mtu" in m
        }

    def agent_of(self, node: str) -> int:
        """The process id of a node's agent."""
        for pid, _ in processes_of(init_of(self.name)):
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                wanted_here = f"PODWAY_NODE={node}\0".encode() in Path(f"/proc/{pid}/environ").read_bytes()
            except OSError:
                continue  # it has ended meanwhile
            if wanted_here and b"agent" in words and b"nsenter" not in words[0]:
                return pid
        raise AssertionError(f"{node} has no agent")

    def has_agent(self, node: str) -> bool:
        """Whether a node's agent runs."""
        try:
            return bool(self.agent_of(node))
        except AssertionError:
            return False

    def start_agent(self, node: str) -> subprocess.Popen[bytes]:
        """A new agent of a node whose agent was killed."""
        place = find(self.name)
        words = command(place, node, [*PODWAY, "agent", "--listen", ""])
        with open(place.node(node) / "agent.log", "ab") as log:
            return subprocess.Popen(words, env=environment(place, node), stdout=log, stderr=log)

    def wait_settled(self, nodes: tuple[str, ...] = ()) -> None:
        """Until the nodes accept and send the wanted way only, and no other device is left."""
        nodes = nodes or self.nodes
        until(f"{nodes} agree", lambda: self.agreed(nodes) and all(self.is_settled(node) for node in nodes))

    def is_settled(self, node: str) -> bool:
        """Whether a node has the wanted tunnels' devices alone, and its kernel is as planned."""
        want = sum(way.transport in TUNNELS for way in self.stored()[0])
        return len(self.devices(node)) == want and self.is_even(node)

    def agreed(self, nodes: tuple[str, ...]) -> bool:
        """Whether the nodes say that they accept and send the wanted way only, with the wanted MTU."""
        ways, said = self.stored()
        texts = tuple(sorted(one.text for one in ways))
        found = [said.get(node) for node in nodes]
        return all(one and (one.accepts, one.sends) == (texts, texts) and _has_target(one) for one in found)

    def stored(self) -> tuple[set[Way], dict[str, Paths | None]]:
        """The wanted ways, and what each node says of its own, by the store."""
        with contextlib.closing(open_store(find(self.name).store)) as store:
            records = [record for kind in ("Network", "Node") for record in store.list(kind)[0]]
        found, _ = stored.snapshot(records)
        spec = documents.resolve(found.networks["pods"]).spec
        return {*wishes(spec), *by_family(spec)}, {n: one.paths.get("pods") for n, one in found.nodes.items()}

    def is_even(self, node: str) -> bool:
        """Whether a node's kernel is as planned."""
        return "nothing to change" in self.inside(node, "podway", "plan", check=None)

    def block_of(self, node: str) -> str:
        """A node's IPv4 block."""
        store = open_store(find(self.name).store)
        try:
            found, _ = stored.snapshot(store.list("Block")[0])
        finally:
            store.close()
        return next(b.cidr for b in found.blocks.values() if b.spec.node == node and ":" not in b.cidr)

    def cluster_of(self, node: str) -> str:
        """What a node doesn't masquerade."""
        return self.inside(node, "nft", "list", "set", "inet", "podway", "cluster4")


def _has_target(one: Paths) -> bool:
    return one.sizes is not None and one.sizes.sends == one.mtu == one.sizes.target


def until(what: str, holds: Callable[[], bool], patience: float = PATIENCE) -> None:
    """Wait for a condition, some seconds at most."""
    deadline = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)

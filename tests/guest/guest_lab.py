"""Labs in the guest: agents, commands and the CNI executable as a user has them; their network changed under
traffic, and what the wires carry."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from changing import POOLS, Lab, until
from lab_tools import podway, running
from streams import running as traffic
from under_traffic import heard, listener

from podway.kernel import namespaces
from podway.lab import packet
from podway.lab.place import find

SEGMENTS = {
    "left": {"cidrs": ["192.0.2.0/24", "fd00:192:0:2::/64"]},
    "right": {"cidrs": ["203.0.113.0/24", "fd00:203:0:113::/64"]},
}
PATIENCE = 240.0  # seconds: every command takes some
RATE, SIZE, DRAIN = 5, 200, 60.0  # for each of 12 flows: the guest is emulated
AFTER = 3.0  # seconds: many packets of each flow


@contextlib.contextmanager
def lab(directory: Path, spec: dict[str, Any], sides: dict[str, str]) -> Iterator[Lab]:
    """Nodes, each in the segment that ``sides`` says, with a pod and the network of a spec; a router if there
    are two segments."""
    network = {"apiVersion": "podway.dev/v1", "kind": "Network", "metadata": {"name": "pods"}}
    segments = {name: SEGMENTS[name] for name in sorted(set(sides.values()))}
    topology = {
        "segments": segments,
        "nodes": {name: {"segment": side, "pods": 1} for name, side in sides.items()},
        "documents": [network | {"spec": {"pools": POOLS} | spec}],
    }
    if len(segments) > 1:
        topology["routers"] = {"router": {"segments": list(segments)}}
    file = directory / "lab.json"
    file.write_text(json.dumps(topology))
    with running(f"g{os.getpid()}", "-f", str(file)) as name:
        yield Lab(name, len(sides))


@contextlib.contextmanager
def frames_of(lab: Lab, node: str) -> Iterator[list[bytes]]:
    """The frames on a node's uplink: filled when the body has ended."""
    fd = namespaces.open_namespace(str(find(lab.name).namespace(node)))
    try:
        with namespaces.entered(fd):
            ear = listener("eth0")
    finally:
        os.close(fd)
    found: list[bytes] = []
    with ear:
        yield found
        found += heard(ear)


def reach_all(lab: Lab) -> list[bytes]:
    """Every pair of pods, in both families, without NAT; the frames on node1's uplink meanwhile."""
    with frames_of(lab, "node1") as frames:
        podway("test", "--name", lab.name, "--between", "pods")
    return frames


def change(lab: Lab, spec: dict[str, Any], then: Callable[[Lab], None] = lambda lab: None) -> list[bytes]:
    """Under traffic of all pairs, all of which comes; the frames on node1's uplink after it, and after
    ``then``."""
    with traffic(lab.pods(), RATE, SIZE, DRAIN) as seen:
        lab.apply(spec)
        until("all agree", lambda: lab.agreed(lab.nodes), PATIENCE)
        then(lab)
        with frames_of(lab, "node1") as frames:
            time.sleep(AFTER)
    seen.verify(5)
    return frames


def plain(frames: list[bytes]) -> list[bytes]:
    """Those from pod to pod that nothing is around."""
    found = []
    for frame in frames:
        version = packet.IP.get(frame[12:14])
        if version is not None:
            ends = frame[26:34] if version == 4 else frame[22:54]
            half = len(ends) // 2
            found += [frame] if all(_is_pods(end) for end in (ends[:half], ends[half:])) else []
    return found


def _is_pods(end: bytes) -> bool:
    address = ipaddress.ip_address(end)
    pools = [ipaddress.ip_network(pool["cidr"]) for pool in POOLS]
    return any(address in pool for pool in pools)


def tunnelled(frames: list[bytes]) -> set[tuple[int, str]]:
    """(protocol, "across" subnets or "within" one) of what was IP in IP."""
    found = set()
    for frame in frames:
        words, _ = packet.peel(frame)
        if match := re.fullmatch(r"IP in IP, protocol (\d+), (\S+) → (\S+)", words):
            ends = {_side(match[2]), _side(match[3])}
            found.add((int(match[1]), "across" if len(ends) == 2 else "within"))
    return found


def _side(address: str) -> str:
    return next(
        name
        for name, one in SEGMENTS.items()
        if any(ipaddress.ip_address(address) in ipaddress.ip_network(cidr) for cidr in one["cidrs"])
    )

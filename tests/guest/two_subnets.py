"""A lab of three nodes in two subnets with a router between, a pod each, and what its wires carry."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from changing import POOLS, Lab
from lab_tools import podway, running
from under_traffic import ALL, SO_RCVBUFFORCE, heard

from podway.kernel import namespaces
from podway.lab import packet
from podway.lab.place import find

SEGMENTS = {
    "left": {"cidrs": ["192.0.2.0/24", "fd00:192:0:2::/64"]},
    "right": {"cidrs": ["203.0.113.0/24", "fd00:203:0:113::/64"]},
}
PATIENCE = 240.0  # seconds: every command takes some
SIDES = {"node1": "left", "node2": "left", "node3": "right"}


@contextlib.contextmanager
def two_subnets(directory: Path, spec: dict[str, Any]) -> Iterator[Lab]:
    """The lab with its network as the spec wants it."""
    network = {"apiVersion": "podway.dev/v1", "kind": "Network", "metadata": {"name": "pods"}}
    topology = {
        "segments": SEGMENTS,
        "routers": {"router": {"segments": list(SEGMENTS)}},
        "nodes": {name: {"segment": side, "pods": 1} for name, side in SIDES.items()},
        "documents": [network | {"spec": {"pools": POOLS} | spec}],
    }
    file = directory / "lab.json"
    file.write_text(json.dumps(topology))
    with running(f"g{os.getpid()}", "-f", str(file)) as name:
        yield Lab(name, len(SIDES))


@contextlib.contextmanager
def frames_of(lab: Lab, node: str) -> Iterator[list[bytes]]:
    """The frames on a node's uplink: filled when the body has ended."""
    fd = namespaces.open_namespace(str(find(lab.name).namespace(node)))
    try:
        with namespaces.entered(fd):
            ear = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, ALL)
    finally:
        os.close(fd)
    found: list[bytes] = []
    with ear:
        ear.bind(("eth0", 0))
        ear.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
        yield found
        found += heard(ear)


def reach_all(lab: Lab) -> list[bytes]:
    """Every pair of pods, in both families, without NAT; the frames on node1's uplink meanwhile."""
    with frames_of(lab, "node1") as frames:
        podway("test", "--name", lab.name, "--between", "pods")
    return frames


def plain(frames: list[bytes]) -> list[bytes]:
    """Those from pod to pod that nothing is around."""
    pools = [ipaddress.ip_network(pool["cidr"]) for pool in POOLS]
    found = []
    for frame in frames:
        version = packet.IP.get(frame[12:14])
        if version is not None:
            ends = frame[26:34] if version == 4 else frame[22:54]
            source = ipaddress.ip_address(ends[: len(ends) // 2])
            found += [frame for pool in pools if source.version == pool.version and source in pool]
    return found


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

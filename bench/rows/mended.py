"""How long two pods of two nodes don't reach each other after something of a node's was taken away.

Beside flanneld. The outage is what the pods see: the longest time between two echoes that were answered,
asked for every millisecond. What is not back after ``NEVER`` counts as that, and the daemon is started anew.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import select
import socket
import subprocess
import time
from pathlib import Path

from bench import between
from bench.between import Pair
from bench.host import Host
from bench.measure import Row, median_row
from bench.reach import request

EVERY = 0.001  # seconds between two echoes
NEVER = 12.0  # seconds; flanneld looks at its host-gw routes every ten
TIMES = 4  # of one deed
PEACE = 11.0  # seconds between two: several repairs of a thing within ten are a fight, and Podway backs off

#: name → command; {dev}, {mac}, {dst}, {via}: the tunnel, the other's VTEP, block and next hop
VXLAN = {
    "lost route": "ip route del {dst}",
    "lost forwarding entry": "bridge fdb del {mac} dev {dev} dst 192.0.2.2",
    "lost neighbour": "ip neigh del {via} dev {dev}",
    "device deleted": "ip link del {dev}",
    "device down": "ip link set {dev} down",
    "device's MAC changed": "ip link set {dev} address 02:12:34:56:78:9a",
    "ip_forward off": "sysctl -qw net.ipv4.ip_forward=0",
}
HOST_GW = {"lost route": "ip route del {dst}"}


def mended(rounds: int, directory: Path) -> list[Row]:
    """VXLAN and host-gw; four samples a deed of ours, one of theirs, which takes the whole time."""
    rows = []
    for transport, deeds in (("vxlan", VXLAN), ("host-gw", HOST_GW)):
        taken: dict[str, dict[str, list[float]]] = {}
        for side, times in (("ours", min(rounds, TIMES)), ("theirs", 1)):
            place = directory / f"{transport}-{side}"
            place.mkdir()
            with between.SIDES[side](place, transport) as pair:
                time.sleep(1.0)  # until what was deferred is done
                for turn in range(times):
                    time.sleep(PEACE if turn else 0.0)
                    for name, deed in deeds.items():
                        taken.setdefault(name, {}).setdefault(side, []).append(_outage(pair, deed))
        for name, found in taken.items():
            row = f"outage after {name}, {transport} / flanneld ({NEVER:.0f} s: never)"
            rows.append(median_row(row, "ms", found["ours"], found["theirs"], "repair"))
    return rows


def _outage(pair: Pair, deed: str) -> float:
    """Milliseconds."""
    command = deed.format(**_names(pair.nodes[0])).split()
    with pair.pods[0].entered():
        sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    with sock:
        sock.setblocking(False)
        gap = _gap(sock, pair, command)
    if gap >= NEVER:
        with contextlib.suppress(RuntimeError):
            pair.nodes[0].run("sysctl -qw net.ipv4.ip_forward=1")
        pair.restart()
        between.carries(pair.pods[0], pair.there)
    time.sleep(0.3)
    return gap * 1e3


def _gap(sock: socket.socket, pair: Pair, command: list[str]) -> float:
    """The longest time between two answered requests, around a command's execution."""
    began = time.monotonic()
    sent: dict[int, float] = {}
    answered: list[float] = []
    process: subprocess.Popen[bytes] | None = None
    ended = 0.0
    number = 0
    while True:
        now = time.monotonic()
        if process is None and now - began > 0.05:
            with pair.nodes[0].entered():
                process = subprocess.Popen(command)
        if process is not None and not ended and process.poll() is not None:
            if process.returncode:
                raise RuntimeError(f"{' '.join(command)} failed")
            ended = now
        number = (number + 1) & 0xFFFF
        sent[number] = now
        with contextlib.suppress(OSError):
            sock.sendto(request(number), (pair.there, 0))
        select.select([sock], [], [], EVERY)
        with contextlib.suppress(BlockingIOError):
            while True:
                packet = sock.recv(256)
                if packet[20] == 0 and (at := sent.get(int.from_bytes(packet[24:26], "big"))):
                    answered.append(at)
        if ended and now - ended > NEVER:
            return NEVER
        if ended and answered and answered[-1] > ended + 0.05:
            times = sorted(answered)
            return max(after - before for before, after in itertools.pairwise(times))


def _names(node: Host) -> dict[str, str]:
    """What the deeds are about, as the node has it now."""
    routes = json.loads(node.run("ip -4 -j route"))
    route = next(one for one in routes if one["dst"].startswith("10.9") and one.get("gateway"))
    via, dev = route["gateway"], route["dev"]
    entries = json.loads(node.run("ip -4 -j neigh show nud permanent"))
    mac = next((one["lladdr"] for one in entries if one["dst"] == via), "")
    return {"dst": route["dst"], "via": via, "dev": dev, "mac": mac}

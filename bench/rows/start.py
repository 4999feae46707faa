"""Forty-nine nodes started at once; and what a change of the transport leaves behind. Beside flanneld."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import between, flannel, podway
from bench.host import Host
from bench.measure import Row, median_row
from bench.rows.join import POOL, STORE, started
from bench.segment import ETCD, Segment, carries, etcd, segment, until
from podway.kernel.rtnetlink import Rtnetlink
from podway.model.objects import Route

COUNT = 49
TIMES = 3
PATIENCE = 120.0


def together(rounds: int, directory: Path) -> list[Row]:
    """Seconds until every node that didn't give up has a route to every other's block; how many gave up."""
    taken: dict[str, list[tuple[float, float]]] = {"ours": [], "theirs": []}
    for turn in range(min(rounds, TIMES)):
        for side in ("ours", "theirs") if turn % 2 == 0 else ("theirs", "ours"):
            place = directory / f"{turn}-{side}"
            place.mkdir()
            taken[side].append(_start(side, place))
    rows = []
    for number, (words, unit, goal) in enumerate((("meshed", "s", "meshed"), ("gave up", "", "gave up"))):
        ours, theirs = ([sample[number] for sample in taken[side]] for side in ("ours", "theirs"))
        rows.append(median_row(f"{COUNT} nodes at once, {words} / flanneld", unit, ours, theirs, goal))
    return rows


def _start(side: str, directory: Path) -> tuple[float, float]:
    with segment(side[0]) as lan, etcd(lan, directory) as store, contextlib.ExitStack() as stack:
        hosts = [stack.enter_context(lan.host(f"n{number}", number)) for number in range(1, COUNT + 1)]
        for one in hosts:
            carries(one, ETCD)
        return (_ours if side == "ours" else _theirs)(lan, directory, store, hosts)


def _ours(lan: Segment, directory: Path, store: Host, hosts: list[Host]) -> tuple[float, float]:
    podway.Node(store, directory, STORE).apply(podway.network("pods", POOL, transport="vxlan"))
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        nodes = [podway.Node(one, directory, STORE) for one in hosts]
        stack.enter_context(started(stack, nodes))
        _meshed(hosts, POOL)
        return time.monotonic() - began, 0.0


def _theirs(lan: Segment, directory: Path, store: Host, hosts: list[Host]) -> tuple[float, float]:
    flannel.configure(store, "vxlan")
    nodes = [flannel.Node(one, directory) for one in hosts]
    began = time.monotonic()
    try:
        for node in nodes:
            node.start()
        until(lambda: all(node.exited or node.file.exists() for node in nodes), "some neither serve nor end")
        _meshed([node.host for node in nodes if not node.exited], flannel.POOL)
        return time.monotonic() - began, float(sum(node.exited for node in nodes))
    finally:
        for node in nodes:
            node.end()


def _meshed(hosts: Sequence[Host], pool: str) -> None:
    """Wait until each has as many routes via a next hop into ``pool`` as there are others."""
    missing = list(hosts)
    whole = ipaddress.ip_network(pool)

    def all_there() -> bool:
        missing[:] = [one for one in missing if _routes(one, whole) < len(hosts) - 1]
        return not missing

    until(all_there, f"{len(hosts)} nodes never all had routes to all", PATIENCE)


def _routes(one: Host, pool: Any) -> int:
    with one.entered():
        netlink = Rtnetlink()
    try:
        routes = netlink.dump("route").values()
        found = [r for r in routes if isinstance(r, Route) and r.via and ":" not in r.dst]
        return sum(ipaddress.ip_network(route.dst).subnet_of(pool) for route in found)
    finally:
        netlink.close()


def leftovers(rounds: int, directory: Path) -> list[Row]:
    """VXLAN to host-gw under running pods: tunnels, forwarding entries and small MTUs that are left."""
    found = {}
    for side in ("ours", "theirs"):
        place = directory / side
        place.mkdir()
        with between.SIDES[side](place, "vxlan") as pair:
            pair.change("host-gw")
            with contextlib.suppress(RuntimeError):
                until(
                    lambda pair=pair: _left(pair) == 0, "something is left", 60.0 if side == "ours" else 15.0
                )
            found[side] = float(_left(pair))
    return [
        median_row(
            "left behind by vxlan → host-gw / flanneld", "", [found["ours"]], [found["theirs"]], "none"
        )
    ]


def _left(pair: between.Pair) -> int:
    """Of the first node: VXLAN devices, their forwarding entries, and pods with an MTU for a tunnel."""
    node, pod = pair.nodes[0], pair.pods[0]
    devices = json.loads(node.run("ip -j -d link show type vxlan"))
    entries = [line for line in node.run("bridge fdb show").splitlines() if " dst 192.0.2." in line]
    (link,) = json.loads(pod.run("ip -j link show eth0"))
    return len([one for one in devices if one]) + len(entries) + (link["mtu"] < 1500)

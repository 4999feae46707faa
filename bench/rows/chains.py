"""Usual chains of the reference plugins' names: Podway's drop-in executables beside the reference's own.

Each side runs the same conflists, as Kubernetes distributions and podman write them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import podway
from bench.chain import Chain
from bench.measure import Row, in_turn, median_row, quantile_row
from bench.reference import Reference, references
from bench.rows.cni import OURS, Side, at_once, bench_node, once
from podway.cni.dropin import NAMES

TWENTY = 20
_PORTMAP = {"type": "portmap", "capabilities": {"portMappings": True}}
_BANDWIDTH = {"type": "bandwidth", "capabilities": {"bandwidth": True}}
_FIREWALL = {"type": "firewall"}
_TUNING = {"type": "tuning", "sysctl": {"net.core.somaxconn": "500"}}
_LIMITS = {"ingressRate": 10**9, "ingressBurst": 10**8, "egressRate": 10**9, "egressBurst": 10**8}


def usual_chains() -> dict[str, list[dict[str, Any]]]:
    """What comes after the bridge, by the chain's name; only names that Podway has."""
    whole = [one for one in (_PORTMAP, _BANDWIDTH, _FIREWALL, _TUNING) if one["type"] in NAMES]
    return {"bridge": [], "bridge, portmap": [_PORTMAP], f"{len(whole) + 1} plugins": whole}


def conflist(after: list[dict[str, Any]], data: Path, backend: str) -> dict[str, Any]:
    bridge = Reference("", data, backend).conflist("masquerade" if after else "bridge", data)["plugins"][0]
    plugins = [bridge, *({**one, "dataDir": str(data)} if one is _TUNING else one for one in after)]
    if backend == "nftables":
        plugins = [{**one, "backend": backend} if one["type"] == "portmap" else one for one in plugins]
    return {"cniVersion": "1.0.0", "name": "bench", "plugins": plugins}


def _capabilities(number: int) -> dict[str, Any]:
    """Of one of the pods that live at a time: each publishes ports of its own."""
    ports = [
        {"hostPort": 8000 + number, "containerPort": 80, "protocol": "tcp"},
        {"hostPort": 9000 + number, "containerPort": 53, "protocol": "udp"},
    ]
    return {"portMappings": ports, "bandwidth": _LIMITS}


@contextlib.contextmanager
def _sides(after: list[dict[str, Any]], directory: Path) -> Iterator[dict[str, Side]]:
    """A node each: ours with an agent, and every reference."""
    with contextlib.ExitStack() as stack:
        node = stack.enter_context(bench_node("ours"))
        made = podway.Node(node, directory, f"sqlite:{directory}/store.db")
        binaries = directory / "dropin"
        made.apply(podway.node(node.name, "198.51.100.2/24"))
        where = ["--bin-dir", str(binaries), "--socket", str(made.socket), *made.place]
        made.podway("cni", "install", "--drop-in", "all", *where)
        stack.enter_context(made.agent())
        sides = {OURS: Side(node, Chain(conflist(after, directory / "data", ""), str(binaries)))}
        for number, one in enumerate(references()):
            theirs = Chain(conflist(after, directory / f"data-{number}", one.backend), str(one.directory))
            sides[one.name] = Side(stack.enter_context(bench_node(f"reference{number}")), theirs)
        yield sides


def one(rounds: int, directory: Path) -> list[Row]:
    """ADD, CHECK and DEL, p50 and p95, one pod at a time."""
    rows = []
    for number, (title, after) in enumerate(usual_chains().items()):
        place = directory / f"one-{number}"
        place.mkdir()
        with _sides(after, place) as sides:
            # Debian's portmap looks for IPv6 rules in CHECK that it never made
            checked = {name: not (after and name.startswith("Debian")) for name in sides}
            work = {name: once(side, _capabilities(0), checked[name]) for name, side in sides.items()}
            taken = in_turn(work, rounds)
        ours = taken.pop(OURS)
        goal = {0: "add bridge", 2: "chain"}.get(number, "")
        for verb in ("ADD", "CHECK", "DEL"):
            for name, theirs in taken.items():
                if verb == "CHECK" and not checked[name]:
                    continue
                head = f"drop-in {verb} {title}"
                rows.append(median_row(f"{head} p50 / {name}", "ms", ours[verb], theirs[verb], goal))
                rows.append(quantile_row(f"{head} p95 / {name}", "ms", 0.95, ours[verb], theirs[verb]))
    return rows


def twenty(rounds: int, directory: Path) -> list[Row]:
    """Twenty ADDs, then DELs, begun at one moment: ms until the last has ended."""
    rows = []
    for number, (title, after) in enumerate(usual_chains().items()):
        place = directory / f"twenty-{number}"
        place.mkdir()
        with _sides(after, place) as sides:
            for side in sides.values():  # the references' firewall fails where twenty make its chain at once
                once(side, _capabilities(TWENTY))()
            work = {name: at_once(side, TWENTY, _capabilities) for name, side in sides.items()}
            taken = in_turn(work, max(rounds // 4, 5))
        ours = taken.pop(OURS)
        for verb in ("ADD", "DEL"):
            for name, theirs in taken.items():
                head = f"drop-in {TWENTY} {verb} at once {title} / {name}"
                rows.append(median_row(head, "ms", ours[verb], theirs[verb]))
    return rows

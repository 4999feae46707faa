"""What peers cost: planning and programming 100 to 5000 of them, one that changes among them, and a tunnel
device that has to come back with all of them. The figures over size become docs/scaling.png."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from bench import plot, podway
from bench.host import Host, host
from bench.measure import Row, interval, median_row
from bench.rows import repair
from podway.model.resources import Snapshot
from podway.node.engine import NodeEngine, open_engine
from podway.plan.planner import Planner
from podway.store import Record, Store, open_store
from podway.store.mirror import Mirror

SIZES = (100, 500, 1000, 2000, 5000)
CHANGES = 30  # of one peer's address, at each size
BACK = 1000  # peers of the device that comes back
WAY = "vxlan:1:8472:4"
PICTURE = Path(__file__).parents[2] / "docs" / "scaling.png"
RTNLGRP_LINK, DELLINK = 1, 17  # linux/rtnetlink.h
ROUTE_PROTOCOL = 112
SO_RCVBUFFORCE = 33


def scaling(rounds: int, directory: Path) -> list[Row]:
    """Start and one change at every size, planned only and on the kernel; and the picture of it."""
    lines: dict[str, list[tuple[float, float]]] = {}
    rows: list[Row] = []
    for size in SIZES:
        with host("scale") as place, place.entered():
            _uplink(place)
            taken = _at(size, directory / str(size), max(1, rounds // 10))
        for name, samples in taken.items():
            lines.setdefault(name, []).append((size, statistics.median(samples)))
            if size in (1000, 5000):
                rows.append(median_row(f"{size} peers, {name}", "ms", samples, goal=_goal(name)))
    plot.save(PICTURE, "one node's cost of peers", "peers", "ms", lines)
    return rows


def _goal(name: str) -> str:
    return "peer change" if name == "one changes, programmed" else ""


def _uplink(place: Host) -> None:
    place.run("ip link add up0 type veth peer name up1")
    place.run("ip address add 172.16.0.0/12 dev up0")
    for link in ("up0", "up1"):
        place.run(f"ip link set {link} up")


def _at(size: int, directory: Path, starts: int) -> dict[str, list[float]]:
    """Metric → milliseconds, in the calling thread's namespace."""
    directory.mkdir()
    url = f"sqlite:{directory}/store.db"
    taken: dict[str, list[float]] = {}
    with contextlib.closing(open_store(url, create=True)) as store:
        fill(store, size)
        for number in range(starts):
            state = str(directory / f"state{number}")
            with _mirror(url) as mirror:
                began = time.perf_counter()
                with open_engine("n0", state, url, opener=lambda _: mirror.session()) as engine:
                    _take(taken, "start, programmed", began)
                    if number == 0:
                        _change(engine, mirror, store, taken)
                        _plan(engine, engine.cluster.snapshot, taken)
            subprocess.run(["ip", "link", "del", "pw-pods"], capture_output=True)
            for link in json.loads(subprocess.check_output(["ip", "-j", "link", "show", "type", "vxlan"])):
                subprocess.run(["ip", "link", "del", link["ifname"]], check=True)
    return taken


def _take(taken: dict[str, list[float]], name: str, began: float) -> None:
    taken.setdefault(name, []).append((time.perf_counter() - began) * 1e3)


@contextlib.contextmanager
def _mirror(url: str) -> Iterator[Mirror]:
    """What the agent keeps of the store."""
    mirror = Mirror(url, "n0")
    mirror.start()
    mirror.wait(60)
    try:
        yield mirror
    finally:
        mirror.stop()


def _change(engine: NodeEngine, mirror: Mirror, store: Store, taken: dict[str, list[float]]) -> None:
    """One peer has another address: from the store's word to the kernel."""
    while engine.follow_store().results:
        pass
    for number in range(CHANGES):
        node = store.get("Node", "n7")
        spec = json.dumps({"addresses": [f"172.31.9.{number}/12"]}).encode()
        mirror.drain()
        store.update_spec(msgspec.structs.replace(node, spec=spec))
        select.select([mirror.fileno()], [], [], 30)
        began = time.perf_counter()
        report = engine.follow_store()
        _take(taken, "one changes, programmed", began)
        if not report.results or report.failures:
            raise RuntimeError(f"the change was not programmed: {report}")


def _plan(engine: NodeEngine, snapshot: Snapshot, taken: dict[str, list[float]]) -> None:
    planner = Planner(engine.planner.inputs.facts)
    began = time.perf_counter()
    planner.update_snapshot(snapshot)
    _take(taken, "start, planned", began)
    for number in range(CHANGES):
        node = snapshot.nodes["n7"]
        spec = msgspec.structs.replace(node.spec, addresses=(f"172.31.10.{number}/12",))
        nodes = snapshot.nodes | {"n7": msgspec.structs.replace(node, spec=spec)}
        snapshot = msgspec.structs.replace(snapshot, nodes=nodes)
        began = time.perf_counter()
        planner.update_snapshot(snapshot)
        _take(taken, "one changes, planned", began)


def fill(store: Store, size: int) -> None:
    """A VXLAN network, and ``size`` nodes with a block each; n0 is the one that is looked at."""
    network = {"pools": [{"cidr": "10.0.0.0/8"}], "transport": "vxlan"}
    store.create(Record(kind="Network", name="pods", spec=json.dumps(network).encode()))
    sizes = {"generation": f"auto {WAY}", "target": 1450, "sends": 1450}
    said = {"accepts": [WAY], "sends": [WAY], "mtu": 1450, "sizes": sizes}
    status = json.dumps({"macs": ["02:00:00:00:00:01"], "paths": {"pods": said}}).encode()
    for number in range(1, size + 1):
        address = f"172.{16 + (number >> 16)}.{number >> 8 & 255}.{number & 255}/12"
        spec = json.dumps({"addresses": [address]}).encode()
        store.create(Record(kind="Node", name=f"n{number}", spec=spec, status=status))
        block = {"network": "pods", "node": f"n{number}", "attach": "bridge"}
        name = f"10.{number >> 8}.{number & 255}.0/24"
        store.create(Record(kind="Block", name=name, spec=json.dumps(block).encode()))


def back(rounds: int, directory: Path) -> list[Row]:
    """A running agent's VXLAN device with 1000 peers is deleted: until the last route is back."""
    taken = []
    with host("scale") as place:
        with place.entered():
            _uplink(place)
        node = podway.Node(place, directory, f"sqlite:{directory}/store.db", "n0")
        with contextlib.closing(open_store(node.store, create=True)) as store:
            fill(store, BACK)
        for _ in range(max(3, rounds // 4)):
            with node.agent(), _listening(place) as listener:
                time.sleep(repair.SETTLE)
                taken.append(_gone_and_back(place, listener))
    return [
        Row(f"VXLAN device with {BACK} peers back", statistics.median(taken), None, "ms", len(taken),
            interval(taken), "device back")
    ]  # fmt: skip


@contextlib.contextmanager
def _listening(place: Host) -> Iterator[socket.socket]:
    with place.entered(), socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, repair.NETLINK_ROUTE) as listener:
        listener.bind((0, 0))
        listener.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
        for group in (RTNLGRP_LINK, *repair.GROUPS[repair.NETLINK_ROUTE]):
            listener.setsockopt(repair.SOL_NETLINK, repair.NETLINK_ADD_MEMBERSHIP, group)
        listener.settimeout(repair.PATIENCE)
        yield listener


def _gone_and_back(place: Host, listener: socket.socket) -> float:
    """Milliseconds from the device's last event to that of the last route."""
    (device,) = json.loads(place.run("ip -j link show type vxlan"))
    place.run(f"ip link del {device['ifname']}")
    gone, routes = 0.0, 0
    while routes < BACK:
        data = listener.recv(1 << 20)
        now = time.monotonic()
        for kind, payload in repair._messages(data):
            if kind == DELLINK:
                gone, routes = now, 0
            # struct rtmsg: the sixth byte is the protocol
            routes += gone > 0 and kind == repair.NEWROUTE and payload[5] == ROUTE_PROTOCOL
    return (now - gone) * 1e3

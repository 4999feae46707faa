"""One agent among many peers, its store an etcd: what it holds and uses while nothing happens.

The peers are records; a machine beside the node has all their addresses, and answers for none of them.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from bench import podway
from bench.host import Host
from bench.measure import Row, median_row, quantile_row
from bench.rows.agent import IDLE, cpu, memory
from bench.segment import ETCD, address, carries, etcd, segment
from podway.store import Record, open_store

URL = f"etcd:http://{ETCD}:2379/podway"
WAYS = '{"addresses":["%s/32"],"paths":{"pods":{"accepts":["%s"],"sends":["%s"]}}}'
SETTLE = 60.0  # seconds after the last route: the first round of probes takes 40 among a thousand


def idle_etcd(rounds: int, directory: Path) -> list[Row]:
    """Memory and CPU at 50 and at 1000 peers, VXLAN; a look is 20 s, there are a tenth of ``rounds``."""
    rows = []
    for peers in (50, 1000):
        place = directory / str(peers)
        place.mkdir()
        rows += _among(peers, max(1, rounds // 10), place)
    return rows


def _among(peers: int, looks: int, directory: Path) -> list[Row]:
    resident, busy = [], []
    with contextlib.ExitStack() as stack:
        lan = stack.enter_context(segment(f"f{peers}"))
        stack.enter_context(etcd(lan, directory))
        crowd = stack.enter_context(lan.host("crowd", 100))
        crowd.run("ip route add local 198.18.0.0/16 dev lo")
        place = stack.enter_context(lan.host("node", 1))
        place.run(f"ip route add 198.18.0.0/16 via {address(100)}")
        carries(place, ETCD)
        node = podway.Node(place, directory, URL)
        node.apply(podway.network("pods", "10.96.0.0/13", transport="vxlan"))
        pid, _ = stack.enter_context(node.agent())
        _write(place, node.name, peers)
        _programmed(place, peers)
        time.sleep(SETTLE)
        for _ in range(looks):
            began = cpu(pid)
            time.sleep(IDLE)
            busy.append((cpu(pid) - began) / IDLE * 100)
            resident.append(memory(pid)["Rss"])
    return [
        quantile_row(f"agent memory, etcd, {peers} peers", "MiB", 1, resident, goal=f"memory {peers}"),
        median_row(f"agent idle, CPU, etcd, {peers} peers", "% of a core", busy, goal="idle"),
    ]


def _write(place: Host, name: str, peers: int) -> None:
    """The peers' records, as their agents write them."""
    with place.entered(), contextlib.closing(open_store(URL)) as store:
        while not (way := _way(store.list("Node")[0], name)):
            time.sleep(0.1)
        for number in range(peers):
            underlay = f"198.18.{number // 250}.{number % 250 + 1}"
            status = (WAYS % (underlay, way, way)).encode()
            store.create(Record(kind="Node", name=f"peer{number}", status=status))
            block = f"10.{100 + number // 256}.{number % 256}.0/24"
            spec = f'{{"network":"pods","node":"peer{number}","attach":"bridge"}}'
            store.create(Record(kind="Block", name=block, spec=spec.encode()))


def _way(records: list[Record], name: str) -> str:
    """What the node itself accepts; "" as long as it has not told."""
    from podway.model import stored

    for record in records:
        if record.name == name:
            found = stored.node_status(record.status).paths.get("pods")
            return found.accepts[0] if found and found.accepts else ""
    return ""


def _programmed(place: Host, peers: int) -> None:
    """Until there is a route to every peer's block."""
    deadline = time.monotonic() + 120
    while place.run("ip route").count("onlink") < peers:
        if time.monotonic() > deadline:
            raise RuntimeError("not every peer is programmed")
        time.sleep(0.2)

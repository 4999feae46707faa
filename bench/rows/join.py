"""A node joins a cluster: until every other node reaches its first pod; and many nodes started at once.

Beside flanneld with etcd, on namespaces of the same kind; Podway's store is etcd too. A node's time begins
when it is ready to serve a pod (READY=1; the subnet file), and holds the CNI call that attaches it.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench import flannel, podway, reach
from bench.host import ended, host
from bench.measure import Row, Sample, in_turn, median_row
from bench.segment import ETCD, Segment, carries, etcd, segment

POOL = "10.98.0.0/16"
STORE = f"etcd:http://{ETCD}:2379/podway"
FIRST = 200  # number of the first joining node: every round has another


def small(rounds: int, directory: Path) -> list[Row]:
    """A cluster of 10."""
    return _rows(rounds, directory, 10)


def large(rounds: int, directory: Path) -> list[Row]:
    """A cluster of 50."""
    return _rows(max(3, rounds // 2), directory, 50)


def _rows(rounds: int, directory: Path, size: int) -> list[Row]:
    rows = []
    for transport in ("vxlan", "host-gw"):
        with contextlib.ExitStack() as stack:
            sides: dict[str, Callable[[], Sample]] = {}
            for side, cluster in (("ours", _ours), ("theirs", _theirs)):
                place = directory / f"{transport}-{side}"
                place.mkdir()
                sides[side] = stack.enter_context(
                    cluster(f"{side[0]}{transport[0]}", place, transport, size - 1)
                )
            taken = in_turn(sides, rounds)
        for metric, words, goal in (
            ("ready", "from readiness", "join"),
            ("start", "from the process's start", ""),
        ):
            name = f"join {size} nodes, {transport}, {words} / flanneld"
            rows.append(median_row(name, "ms", taken["ours"][metric], taken["theirs"][metric], goal))
    return rows


@contextlib.contextmanager
def _ours(name: str, directory: Path, transport: str, count: int) -> Iterator[Callable[[], Sample]]:
    """A cluster of Podway's; the body's function has one more node join, and die: as leases
    stay with Flannel, so its object and block stay here."""
    with segment(name) as lan, etcd(lan, directory) as store, contextlib.ExitStack() as stack:
        hosts = [stack.enter_context(lan.host(f"n{number}", number)) for number in range(1, count + 1)]
        carries(hosts[-1], ETCD)
        nodes = [podway.Node(one, directory, STORE) for one in hosts]
        podway.Node(store, directory, STORE).apply(podway.network("pods", POOL, transport=transport))
        with started(stack, nodes):
            pods = [stack.enter_context(host(f"{one.name}-pod")) for one in hosts]
            last = [node.attach(pod) for node, pod in zip(nodes, pods, strict=True)][-1]
            sockets = stack.enter_context(reach.sockets(hosts))
            reach.last(sockets[:-1], last)
            numbers = itertools.count(FIRST)

            def sample() -> Sample:
                return _join_ours(lan, directory, next(numbers), sockets)

            yield sample


def _join_ours(lan: Segment, directory: Path, number: int, sockets: list[Any]) -> Sample:
    with lan.host(f"n{number}", number) as one, host(f"{one.name}-pod") as pod:
        carries(one, ETCD)
        node = podway.Node(one, directory, STORE)
        node.install("pods")
        with node.agent() as (_, took):
            ready = time.monotonic()
            done = reach.last(sockets, node.attach(pod))
        return {"ready": (done - ready) * 1e3, "start": (done - ready + took) * 1e3}


@contextlib.contextmanager
def started(stack: contextlib.ExitStack, nodes: list[podway.Node]) -> Iterator[float]:
    """All agents, started at once: seconds until the last is ready."""
    began = time.monotonic()
    waits = [node.begin() for node in nodes]
    for process, _ in waits:
        stack.enter_context(ended(process))
    for _, wait in waits:
        wait()
    yield time.monotonic() - began


@contextlib.contextmanager
def _theirs(name: str, directory: Path, transport: str, count: int) -> Iterator[Callable[[], Sample]]:
    """The same of Flannel's."""
    with segment(name) as lan, etcd(lan, directory) as store, contextlib.ExitStack() as stack:
        flannel.configure(store, transport)
        hosts = [stack.enter_context(lan.host(f"n{number}", number)) for number in range(1, count + 1)]
        carries(hosts[-1], ETCD)
        last = ""
        for one in hosts:
            node = flannel.Node(one, directory)
            # one after the other: of many that start at once some give up
            stack.enter_context(node.daemon())
            last = node.attach(stack.enter_context(host(f"{one.name}-pod")))
        sockets = stack.enter_context(reach.sockets(hosts))
        reach.last(sockets[:-1], last)
        numbers = itertools.count(FIRST)

        def sample() -> Sample:
            number = next(numbers)
            with lan.host(f"n{number}", number) as one, host(f"{one.name}-pod") as pod:
                carries(one, ETCD)
                node = flannel.Node(one, directory)
                with node.daemon() as took:
                    ready = time.monotonic()
                    done = reach.last(sockets, node.attach(pod))
                return {"ready": (done - ready) * 1e3, "start": (done - ready + took) * 1e3}

        yield sample

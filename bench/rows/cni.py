"""CNI ADD and DEL: one after the other, a hundred at once, and without an agent."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from bench import podway
from bench.chain import Attachment, Chain
from bench.host import Host, host
from bench.measure import Row, Sample, in_turn, median_row, quantile_row
from bench.reference import SCENARIOS, references

OURS = "podway"
PORTS = {
    "portMappings": [
        {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
        {"hostPort": 8053, "containerPort": 53, "protocol": "udp"},
    ]
}
HUNDRED = 100
_containers = (f"bench{number}" for number in itertools.count())  # a runtime uses no name twice


class Side(NamedTuple):
    """A node and the chain that its runtime would run."""

    node: Host
    chain: Chain


@contextlib.contextmanager
def _sides(scenario: str, directory: Path, with_agent: bool = True) -> Iterator[dict[str, Side]]:
    """Ours and every reference, each in a node of its own with an uplink that nothing is sent over."""
    with contextlib.ExitStack() as stack:
        sides = {
            OURS: Side(
                node := stack.enter_context(bench_node("ours")),
                _ours(node, scenario, directory, stack, with_agent),
            )
        }
        for number, one in enumerate(references()):
            data = directory / f"host-local-{number}"
            chain = Chain(one.conflist(scenario, data), str(one.directory))
            sides[one.name] = Side(stack.enter_context(bench_node(f"reference{number}")), chain)
        yield sides


@contextlib.contextmanager
def bench_node(name: str) -> Iterator[Host]:
    """A node with an uplink that nothing is sent over."""
    with host(name) as made:
        made.run("ip link add up0 type veth peer name up1")
        made.run("ip addr add 198.51.100.2/24 dev up0")
        made.run("ip link set up1 up")
        made.run("ip link set up0 up")
        made.run("ip route add default via 198.51.100.1")
        yield made


def _ours(node: Host, scenario: str, directory: Path, stack: contextlib.ExitStack, with_agent: bool) -> Chain:
    made = podway.Node(node, directory, f"sqlite:{directory}/store.db")
    network = podway.network("pods", "10.98.0.0/16", masquerade=scenario != "bridge")
    made.apply(network, podway.node(node.name, "198.51.100.2/24"))
    if with_agent:
        stack.enter_context(made.agent())
    return made.chain("pods")


def once(side: Side, capabilities: dict[str, Any], checks: bool = False) -> Callable[[], Sample]:
    """One pod: ADD, CHECK and DEL in ms; its namespace is made and removed outside of the time."""

    def sample() -> Sample:
        with host("pod", up=False) as pod, side.node.entered():
            attachment = Attachment(next(_containers), pod.path, capabilities)
            start = time.perf_counter()
            result = side.chain.add(attachment)
            added = time.perf_counter()
            if checks:
                side.chain.check(attachment, result)
            checked = time.perf_counter()
            side.chain.delete(attachment, result)
            took = {"ADD": added - start, "CHECK": checked - added, "DEL": time.perf_counter() - checked}
            return {verb: seconds * 1e3 for verb, seconds in took.items()}

    return sample


def one(rounds: int, directory: Path) -> list[Row]:
    """ADD and DEL, p50 and p95, of the three scenarios against every reference."""
    rows = []
    for scenario in SCENARIOS:
        place = directory / scenario
        place.mkdir()
        capabilities = PORTS if scenario == "ports" else {}
        with _sides(scenario, place) as sides:
            taken = in_turn({name: once(side, capabilities) for name, side in sides.items()}, rounds)
        rows += _rows(f"{{}} {scenario}", taken, scenario)
    return rows


def _rows(title: str, taken: dict[str, dict[str, list[float]]], scenario: str) -> list[Row]:
    ours = taken.pop(OURS)
    rows = []
    for verb in ("ADD", "DEL"):
        goal = "del" if verb == "DEL" else {"bridge": "add bridge", "ports": "add ports"}.get(scenario, "")
        for name, theirs in taken.items():
            head = title.format(verb)
            rows.append(median_row(f"{head} p50 / {name}", "ms", ours[verb], theirs[verb], goal))
            rows.append(quantile_row(f"{head} p95 / {name}", "ms", 0.95, ours[verb], theirs[verb]))
    return rows


def agentless(rounds: int, directory: Path) -> list[Row]:
    """ADD and DEL (masquerade) by the same code in-process, no agent listening."""
    with _sides("masquerade", directory, with_agent=False) as sides:
        taken = in_turn({name: once(side, {}) for name, side in sides.items()}, rounds)
    ours = taken.pop(OURS)
    return [
        median_row(f"agentless {verb} masquerade p50 / {name}", "ms", ours[verb], theirs[verb])
        for verb in ("ADD", "DEL")
        for name, theirs in taken.items()
    ]


def hundred(rounds: int, directory: Path) -> list[Row]:
    """A hundred ADDs, then DELs, begun at one moment: ms until the last has ended (masquerade)."""
    with _sides("masquerade", directory) as sides:
        taken = in_turn({name: at_once(side) for name, side in sides.items()}, max(rounds // 2, 10))
    ours = taken.pop(OURS)
    goals = {"ADD": "hundred adds", "DEL": ""}
    return [
        median_row(f"{HUNDRED} {verb} at once / {name}", "ms", ours[verb], theirs[verb], goal)
        for verb, goal in goals.items()
        for name, theirs in taken.items()
    ]


def at_once(
    side: Side, count: int = HUNDRED, capabilities: Callable[[int], dict[str, Any]] = lambda _: {}
) -> Callable[[], Sample]:
    """Pods of its own for every sample: a side may tidy up a namespace after its answer."""

    def sample() -> Sample:
        with contextlib.ExitStack() as stack:
            pods = [stack.enter_context(host(f"pod{number}", up=False)) for number in range(count)]
            attachments = [
                Attachment(next(_containers), pod.path, capabilities(number))
                for number, pod in enumerate(pods)
            ]
            results: dict[str, dict[str, Any]] = {}

            def add(attachment: Attachment) -> None:
                results[attachment.container] = side.chain.add(attachment)

            def delete(attachment: Attachment) -> None:
                side.chain.delete(attachment, results[attachment.container])

            added = _together(side, add, attachments)
            addresses = {result["ips"][0]["address"] for result in results.values()}
            assert len(addresses) == len(pods), f"{len(addresses)} addresses for {len(pods)} pods"
            return {"ADD": added, "DEL": _together(side, delete, attachments)}

    return sample


def _together(side: Side, work: Callable[[Attachment], None], attachments: list[Attachment]) -> float:
    """Milliseconds from the common start until the last thread is done. Raises what the first one raised."""
    gate, failures = threading.Barrier(len(attachments) + 1), []

    def run(attachment: Attachment) -> None:
        with side.node.entered():
            gate.wait()
            try:
                work(attachment)
            except Exception as error:
                failures.append(error)

    threads = [threading.Thread(target=run, args=(one,)) for one in attachments]
    for thread in threads:
        thread.start()
    gate.wait()
    start = time.perf_counter()
    for thread in threads:
        thread.join()
    took = (time.perf_counter() - start) * 1e3
    if failures:
        raise failures[0]
    return took

"""TCP throughput, and TCP and UDP round trips, between two pods of a node and of two nodes.

The other side is the same wiring by hand with ``ip``: bridges, veths, one route a node. It stands there
twice: without nftables, and with the one masquerade rule that pods need to reach the outside, which makes
the kernel track connections.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from bench import wiring
from bench.host import Host, ended
from bench.measure import Row, Sample, in_turn, median_row

SECONDS = 2  # of one throughput sample
TRIPS = 5000  # round trips of one latency sample
PING = Path(__file__).with_name("pingpong.c")


class Wiring(NamedTuple):
    """Three pods: a and b on one node, c on another, and the addresses of b and c."""

    a: Host
    b: Host
    c: Host
    addresses: tuple[str, str]


Taken = dict[str, dict[str, list[float]]]  # side → metric → samples
MASQUERADE = (
    "table ip nat { chain postrouting { type nat hook postrouting priority srcnat; "
    "ip saddr 10.97.0.0/16 ip daddr != 10.97.0.0/16 masquerade; }; }"
)


@contextlib.contextmanager
def _by_hand(side: str, *rules: str) -> Iterator[Wiring]:
    with wiring.nodes(side) as nodes, wiring.pods(side) as pods:
        for number, node in enumerate(nodes, start=1):
            node.run("ip link add br0 type bridge")
            node.run(f"ip addr add 10.97.{number}.1/24 dev br0")
            node.run("ip link set br0 up")
            node.run(f"ip route add 10.97.{3 - number}.0/24 via 192.0.2.{3 - number}")
            for rule in rules:
                node.call("nft", rule)
        for pod, number, address in zip(pods, (1, 1, 2), ("1.2", "1.3", "2.2"), strict=True):
            there = nodes[number - 1]
            there.run(f"ip link add {pod.name} type veth peer name eth0 netns {pod.name}")
            there.run(f"ip link set {pod.name} master br0 up")
            pod.run(f"ip addr add 10.97.{address}/24 dev eth0")
            pod.run("ip link set eth0 up")
            pod.run(f"ip route add default via 10.97.{number}.1")
        yield Wiring(pods[0], pods[1], pods[2], ("10.97.1.3", "10.97.2.2"))


@contextlib.contextmanager
def ours(directory: Path, side: str = "ours", attach: str = "bridge") -> Iterator[Wiring]:
    """Podway's defaults: masquerade and spoof protection on, host-gw between the nodes."""
    with contextlib.ExitStack() as stack:
        pods = stack.enter_context(wiring.pods(side))
        nodes = stack.enter_context(wiring.cluster(directory, side, attach))
        for node in nodes:
            stack.enter_context(node.agent())
        addresses = [nodes[place].attach(pod) for pod, place in zip(pods, (0, 0, 1), strict=True)]
        made = Wiring(pods[0], pods[1], pods[2], (addresses[1], addresses[2]))
        for address in made.addresses:
            wiring.answers(made.a, address)
        yield made


def throughput(rounds: int, directory: Path) -> list[Row]:
    """iperf3, one TCP stream, Gbit/s."""
    with _sides(directory, "iperf3", "-s") as sides:
        taken = in_turn({name: streams(side) for name, side in sides.items()}, rounds)
    return [
        median_row(f"TCP throughput, {where}{beside}", "Gbit/s", taken["ours"][where], figures[where], goal)
        for where in ("one node", "two nodes")
        for beside, figures, goal in _beside(taken, "throughput")
    ]


@contextlib.contextmanager
def _sides(directory: Path, *server: str) -> Iterator[dict[str, Wiring]]:
    """All sides, with ``server`` running in the pods b and c of each."""
    with contextlib.ExitStack() as stack:
        sides = {
            "hand": stack.enter_context(_by_hand("hand")),
            "rule": stack.enter_context(_by_hand("rule", MASQUERADE)),
            "ours": stack.enter_context(ours(directory)),
        }
        for side in sides.values():
            for pod in (side.b, side.c):
                stack.enter_context(ended(pod.spawn(*server)))
        time.sleep(0.5)  # until the servers listen
        yield sides


def _beside(taken: Taken, goal: str) -> tuple[tuple[str, dict[str, list[float]], str], ...]:
    return ("", taken["hand"], goal), (" (masquerade by hand too)", taken["rule"], "")


def streams(side: Wiring) -> Callable[[], Sample]:
    def sample() -> Sample:
        one, two = (stream(side.a, address) for address in side.addresses)
        return {"one node": one, "two nodes": two}

    return sample


def stream(client: Host, address: str) -> float:
    """Gbit/s at the receiver."""
    done = json.loads(client.run(f"iperf3 -c {address} -t {SECONDS} -J"))
    received: float = done["end"]["sum_received"]["bits_per_second"]
    return received / 1e9


def latency(rounds: int, directory: Path) -> list[Row]:
    """One byte there and back, the median of many, in µs."""
    taken = round_trips(_sides, rounds, directory)
    return [
        median_row(f"round trip, {what}{beside}", "µs", taken["ours"][what], figures[what], goal)
        for what in taken["ours"]
        for beside, figures, goal in _beside(taken, "")
    ]


def round_trips(
    sides: Callable[[Path, str], contextlib.AbstractContextManager[dict[str, Wiring]]],
    rounds: int,
    directory: Path,
) -> Taken:
    """Of all ``sides``, in turn; each runs what it is given in the pods b and c."""
    program = directory / "pingpong"
    subprocess.run(["cc", "-O2", "-o", program, PING], check=True)
    with sides(directory, str(program)) as made:
        return in_turn({name: _trips(side, program) for name, side in made.items()}, rounds)


def _trips(side: Wiring, program: Path) -> Callable[[], Sample]:
    def sample() -> Sample:
        found = {}
        for where, address in zip(("one node", "two nodes"), side.addresses, strict=True):
            for protocol in ("tcp", "udp"):
                median = side.a.run(f"{program} {protocol} {address} {TRIPS}")
                found[f"{protocol.upper()}, {where}"] = float(median)
        return found

    return sample

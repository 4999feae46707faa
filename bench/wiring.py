"""Two nodes on a segment and pods on them: by name only, or as a cluster of Podway's."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from bench import podway
from bench.host import Host, host

POOL = "10.98.0.0/16"


@contextlib.contextmanager
def nodes(side: str) -> Iterator[tuple[Host, Host]]:
    """Two nodes on one segment, a bridge in a namespace of its own."""
    with contextlib.ExitStack() as stack:
        segment = stack.enter_context(host(f"{side}-segment"))
        segment.run("ip link add lan type bridge")
        segment.run("ip link set lan up")
        made = [stack.enter_context(host(f"{side}-n{number}")) for number in (1, 2)]
        for number, node in enumerate(made, start=1):
            segment.run(f"ip link add p{number} type veth peer name eth0 netns {node.name}")
            segment.run(f"ip link set p{number} master lan up")
            node.run(f"ip addr add 192.0.2.{number}/24 dev eth0")
            node.run("ip link set eth0 up")
        yield made[0], made[1]


@contextlib.contextmanager
def pods(side: str) -> Iterator[list[Host]]:
    """Three empty pods: a, b and c."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(host(f"{side}-{name}")) for name in "abc"]


@contextlib.contextmanager
def cluster(directory: Path, side: str = "ours", attach: str = "bridge") -> Iterator[list[podway.Node]]:
    """Two nodes of Podway's with a host-gw network declared; their agents are not started."""
    with nodes(side) as hosts:
        made = [podway.Node(one, directory, f"sqlite:{directory}/store.db") for one in hosts]
        documents = [podway.node(one.name, f"192.0.2.{number}/24") for number, one in enumerate(made, 1)]
        made[0].apply(podway.network("pods", POOL, attach=attach, transport="host-gw"), *documents)
        yield made


def answers(pod: Host, address: str) -> None:
    """Wait until an address answers: routes to a block follow its claim."""
    end = time.monotonic() + 10
    while True:
        try:
            pod.run(f"busybox ping -c 1 -W 1 {address}")
            return
        except RuntimeError:
            if time.monotonic() > end:
                raise

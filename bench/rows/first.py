"""From a pod's ADD until a pod of another node is answered by it: VXLAN, host-gw, and BGP.

The first packet leaves when the ADD has answered, for only then is the address known. Mostly the node's block
is known to its peers; an ADD that claims another has its route told first, by the store or by BGP.
"""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import podway, reach
from bench.host import host
from bench.measure import Row, Sample, in_turn, median_row
from bench.segment import address, carries, segment

POOL = "10.98.0.0/16"
SMALLEST = 29  # length of a block that is soon full
WAYS = {"vxlan": "bridge", "host-gw": "bridge", "bgp": "routed"}


def answered(rounds: int, directory: Path) -> list[Row]:
    """Milliseconds; all transports in turn."""
    rows = []
    for words, fresh in (("", False), (", of a new block", True)):
        with contextlib.ExitStack() as stack:
            sides: dict[str, Callable[[], Sample]] = {}
            for transport, attach in WAYS.items():
                name = f"{transport[0]}{'n' if fresh else ''}"
                (place := directory / name).mkdir()
                sides[f"{attach}, {transport}"] = stack.enter_context(
                    _cluster(name, place, attach, transport, fresh)
                )
            taken = in_turn(sides, rounds // 2 if fresh else rounds)  # it takes many pods to fill a block
        rows += [
            median_row(f"ADD to first packet from another node{words}: {way}", "ms", taken[way]["first"])
            for way in sides
        ]
    return rows


@contextlib.contextmanager
def _cluster(
    name: str, directory: Path, attach: str, transport: str, fresh: bool
) -> Iterator[Callable[[], Sample]]:
    """Two nodes; the body's function attaches one more pod to the first, which stays. ``fresh``: as many as
    it takes until one claims a block."""
    with segment(name) as lan, contextlib.ExitStack() as stack:
        hosts = [stack.enter_context(lan.host(f"n{number}", number)) for number in (1, 2)]
        carries(hosts[0], address(2))
        nodes = [podway.Node(one, directory, f"sqlite:{directory}/store.db") for one in hosts]
        pool = {"cidr": POOL} | ({"blockSize": SMALLEST} if fresh else {})
        nodes[0].apply(podway.network("pods", POOL, attach=attach, transport=transport, pools=[pool]))
        for node in nodes:
            stack.enter_context(node.agent())
        there, here = (stack.enter_context(host(f"{name}-{which}")) for which in ("there", "here"))
        nodes[1].attach(there)
        sockets = stack.enter_context(reach.sockets([there]))
        first = nodes[0].attach(here)
        reach.last(sockets, first)
        numbers, blocks = itertools.count(), {_block(first)}

        def sample() -> Sample:
            while True:
                pod = stack.enter_context(host(f"{name}-p{next(numbers)}"))
                began = time.monotonic()
                given = nodes[0].attach(pod)
                took = reach.last(sockets, given) - began
                if not fresh or _block(given) not in blocks:
                    blocks.add(_block(given))
                    return {"first": took * 1e3}

        yield sample


def _block(given: str) -> str:
    return str(ipaddress.ip_network(f"{given}/{SMALLEST}", strict=False))

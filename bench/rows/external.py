"""A node that a router tells a hundred thousand prefixes: what its agent and its BIRD hold with all of them.

The router is a BIRD too. A BGPFilter lets them in, which by default are none of the cluster's business.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from bench import podway
from bench.host import Host, ended
from bench.measure import Row, Sample, median_row
from bench.rows.agent import cpu, memory
from bench.segment import address, carries, segment, until

PREFIXES = 100_000
PATIENCE = 90.0  # seconds until all are in the kernel
CALM = 10.0  # seconds: the agent has heard of them all, and looked at its sessions

ROUTER = """router id {router};
log "{log}" all;
protocol device {{ }}
protocol static many {{
  ipv4;
{routes}
}}
protocol bgp node {{
  local {router} as 65001;
  neighbor {node} as 64512;
  ipv4 {{ import none; export where source = RTS_STATIC; next hop self; }};
}}
"""


def held(rounds: int, directory: Path) -> list[Row]:
    """MiB and seconds; a node is started for each of a tenth of ``rounds``."""
    taken: dict[str, list[float]] = {}
    for number in range(max(1, rounds // 10)):
        (place := directory / str(number)).mkdir()
        for metric, value in _sample(f"x{number}", place).items():
            taken.setdefault(metric, []).append(value)
    rows = (
        ("kernel", "from the start of the router until all are in the kernel", "s"),
        ("before", "agent memory before, RSS", "MiB"),
        ("agent", "agent memory, RSS", "MiB"),
        ("bird", "memory of BIRD, RSS", "MiB"),
        ("cpu", "CPU that the agent took for them", "s"),
    )
    return [
        median_row(f"{PREFIXES} external prefixes: {words}", unit, taken[metric])
        for metric, words, unit in rows
    ]


def _documents() -> Iterator[dict[str, object]]:
    peer = {
        "asNumber": 65001,
        "peerAddress": address(2),
        "maxPrefixes": PREFIXES * 2,
        "filters": ["all"],
    }
    everything = {"imports": [{"action": "accept", "prefixes": [{"cidr": "0.0.0.0/0", "min": 8, "max": 32}]}]}
    yield podway.network("pods", "10.98.0.0/16", attach="routed", transport="bgp")
    for kind, name, spec in (("BGPFilter", "all", everything), ("BGPPeer", "router", peer)):
        yield {"apiVersion": "podway.dev/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def _sample(name: str, directory: Path) -> Sample:
    with segment(name) as lan, contextlib.ExitStack() as stack:
        place, router = (stack.enter_context(lan.host(f"n{number}", number)) for number in (1, 2))
        carries(place, address(2))
        node = podway.Node(place, directory, f"sqlite:{directory}/store.db")
        node.apply(*_documents())
        agent, _ = stack.enter_context(node.agent())
        running = directory / place.name / "bird" / "bird.pid"
        until(running.exists, "the agent has not started BIRD")
        before, spent = memory(agent)["Rss"], cpu(agent)
        began = time.monotonic()
        with ended(_router(router, directory)):
            until(lambda: _routes(agent) >= PREFIXES, "not all prefixes are in the kernel", PATIENCE)
            took = time.monotonic() - began
            time.sleep(CALM)
            return {
                "kernel": took,
                "before": before,
                "agent": memory(agent)["Rss"],
                "bird": memory(int(running.read_text()))["Rss"],
                "cpu": cpu(agent) - spent,
            }


def _router(place: Host, directory: Path):  # type: ignore[no-untyped-def]
    numbers = (f"20.{i >> 16}.{i >> 8 & 255}.{i & 255}/32" for i in range(PREFIXES))
    routes = "\n".join(f"  route {prefix} blackhole;" for prefix in numbers)
    text = ROUTER.format(router=address(2), node=address(1), log=directory / "router.log", routes=routes)
    (directory / "router.conf").write_text(text)
    return place.spawn("bird", "-f", "-c", f"{directory}/router.conf", "-s", f"{directory}/router.sock")


def _routes(pid: int) -> int:
    """IPv4 routes with a gateway in the process's namespace, a line each: proc_pid_net(5)."""
    with open(f"/proc/{pid}/net/route") as lines:
        return sum(1 for _ in lines)

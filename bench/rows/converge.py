"""BGP: until every kernel has every route, BIRD configured as Podway does it beside configurations by hand.

One BIRD for each node, all started at once; in a mesh, and with two reflectors. Then one node's block is
withdrawn, and all are left alone for a while.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from bench.host import Host
from bench.measure import Row, Sample, in_turn, median_row
from bench.rows.agent import cpu, memory
from bench.segment import address, segment, until
from podway.bird.render import render
from podway.model.bgp_specs import BGPConfigurationSpec, ReflectorsSpec
from podway.model.resources import Bgp, Block, BlockSpec, Node, NodeFacts, NodeSpec, Uplink
from podway.plan import bgp

POOL = "10.244.0.0/16"
AS = 64512
CALM = 5.0  # seconds for which all are left alone
PATIENCE = 240.0  # seconds until all routes must be there
CROWD = 100  # nodes beyond which signs of life are rarer: every 3 s they alone would keep two cores busy
SHAPES: Mapping[str, bool] = {"mesh": False, "two reflectors": True}

Configure = Callable[[int, int, Path], str]  # number of a node, of how many, its log → its configuration


def small(rounds: int, directory: Path) -> list[Row]:
    """20 nodes."""
    return _rows(20, max(3, rounds // 4), directory)


def medium(rounds: int, directory: Path) -> list[Row]:
    """50 nodes."""
    return _rows(50, max(2, rounds // 6), directory)


def large(rounds: int, directory: Path) -> list[Row]:
    """100 nodes."""
    return _rows(100, max(1, rounds // 10), directory)


def largest(rounds: int, directory: Path) -> list[Row]:
    """200 nodes, with two reflectors."""
    return _rows(200, max(1, rounds // 10), directory, {"two reflectors": True})


def largest_mesh(rounds: int, directory: Path) -> list[Row]:
    """200 nodes, all with all: both ends of 19 900 sessions are on this machine."""
    return _rows(200, 1, directory, {"mesh": False})


def _block(number: int) -> str:
    return f"10.244.{number}.0/26"


def _hold(count: int) -> int:
    """Seconds, for so many nodes."""
    return 9 if count <= CROWD else 90


def _name(number: int) -> str:
    """In the order of the numbers: names say who calls, and by hand it is who was started first."""
    return f"n{number:03}"


# two ways to say the same ----------------------------------------------------------------------------


def _podway(reflecting: bool) -> Configure:
    nodes: dict[str, Node] = {}

    def configure(number: int, count: int, log: Path) -> str:
        if not nodes:
            for one in range(1, count + 1):
                labels = {"reflects": "yes"} if one <= 2 else {}
                spec = NodeSpec(addresses=(f"{address(one)}/24",), labels=labels)
                nodes[_name(one)] = Node(name=_name(one), spec=spec)
        uplink = Uplink(name="eth0", mtu=1500, addresses=(f"{address(number)}/24",))
        reflectors = ReflectorsSpec(selector="reflects" if reflecting else "")
        mesh, hold = "auto" if reflecting else "on", _hold(count)
        declared = BGPConfigurationSpec(mesh=mesh, reflectors=reflectors, hold=hold, keepalive=hold // 3)
        spec = BlockSpec(network="pods", node=_name(number), attach="routed")
        told = bgp.speaker(
            bgp.Cluster(
                NodeFacts(name=_name(number), uplinks=(uplink,)),
                nodes,
                [Block(cidr=_block(number), spec=spec)],
                {"pods": (POOL,)},
                Bgp(configuration=declared),
            )
        )
        assert told.speaker is not None
        return render(told.speaker, str(log))

    return configure


BY_HAND = """router id {own};
log "{log}" all;
protocol device {{ }}
protocol direct {{ ipv4; interface "eth0"; }}
protocol kernel {{ ipv4 {{ export where source = RTS_BGP; }}; }}
protocol static own4 {{ ipv4; route {block} blackhole; }}
template bgp node {{
  local {own} as {number};
  direct;
  hold time {hold};
  keepalive time {keepalive};
  connect delay time 1;
  ipv4 {{ import all; export where source = RTS_STATIC{more}; }};
}}
"""


def _by_hand(reflecting: bool) -> Configure:
    def configure(number: int, count: int, log: Path) -> str:
        reflects = reflecting and number <= 2
        more = " || source = RTS_BGP" if reflects else ""
        hold = _hold(count)
        common = {"own": address(number), "log": log, "block": _block(number), "number": AS, "more": more}
        text = [BY_HAND.format(**common, hold=hold, keepalive=hold // 3)]
        for peer in range(1, count + 1):
            if peer == number or (reflecting and min(peer, number) > 2):
                continue
            lines = [f"neighbor {address(peer)} as {AS};"] + (["passive on;"] if number > peer else [])
            lines += ["rr client;"] if reflects and peer > 2 else []
            text.append(f"protocol bgp n{peer} from node {{ {' '.join(lines)} }}\n")
        return "".join(text)

    return configure


# one round ---------------------------------------------------------------------------------------------


def _rows(count: int, rounds: int, directory: Path, shapes: Mapping[str, bool] = SHAPES) -> list[Row]:
    rows = []
    with contextlib.ExitStack() as stack:
        lan = stack.enter_context(segment(f"c{count}"))
        hosts = [stack.enter_context(lan.host(f"n{number}", number)) for number in range(1, count + 1)]
        time.sleep(2.0)  # new ports of a bridge take a second
        for shape, reflecting in shapes.items():
            sides: Mapping[str, Configure] = {"ours": _podway(reflecting), "theirs": _by_hand(reflecting)}
            taken = in_turn(
                {side: lambda c=c: _sample(hosts, directory, c) for side, c in sides.items()},  # type: ignore[misc]
                rounds,
            )
            for metric, words, unit, goal in (
                ("all", "all routes in all kernels", "s", "converge"),
                ("gone", "one withdrawn everywhere", "ms", ""),
                ("memory", "memory of one BIRD", "MiB", ""),
                ("cpu", "CPU of all, idle", "% of a core", ""),
            ):
                name = f"bgp {count} nodes, {shape}: {words} / by hand"
                rows.append(median_row(name, unit, taken["ours"][metric], taken["theirs"][metric], goal))
    return rows


def _sample(hosts: list[Host], directory: Path, configure: Configure) -> Sample:
    count = len(hosts)
    for number, one in enumerate(hosts, 1):
        text = configure(number, count, directory / f"{one.name}.log")
        (directory / f"{one.name}.conf").write_text(text)
    began = time.monotonic()
    with _birds(hosts, directory) as birds:
        pids = [bird.pid for bird in birds]
        found = {"all": _until_all_have(pids, count - 1) - began}
        began = time.monotonic()
        hosts[-1].run(f"birdc -s {directory}/{hosts[-1].name}.sock disable own4")
        found["gone"] = (_until_all_have(pids[:-1], count - 2) - began) * 1e3
        spent = sum(map(cpu, pids))
        time.sleep(CALM)
        found["cpu"] = (sum(map(cpu, pids)) - spent) / CALM * 100
        found["memory"] = sum(memory(pid)["Rss"] for pid in pids) / count
    return found


@contextlib.contextmanager
def _birds(hosts: list[Host], directory: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """A BIRD in each, for the body; none of their routes is left."""
    started: list[subprocess.Popen[bytes]] = []
    try:
        for one in hosts:
            files = ["-c", f"{directory}/{one.name}.conf", "-s", f"{directory}/{one.name}.sock"]
            started.append(one.spawn("bird", "-f", *files))
        yield started
    finally:
        for bird in started:
            bird.send_signal(signal.SIGKILL)
        for bird in started:
            bird.wait()
        for one in hosts:
            one.run("ip route flush proto bird")


def _until_all_have(pids: list[int], routes: int) -> float:
    """When the last of the namespaces of ``pids`` had exactly so many routes by way of a peer. One that has
    not holds up the look at the others: to look is work for the same two cores."""
    waiting = list(pids)

    def done() -> bool:
        while waiting and _routes(waiting[-1]) == routes:
            waiting.pop()
        return not waiting

    until(done, f"{len(pids)} BIRDs have not {routes} routes each", PATIENCE)
    return time.monotonic()


def _routes(pid: int) -> int:
    """Routes with a gateway, the default route not counted: /proc/PID/net/route, proc_pid_net(5)."""
    rows = [line.split() for line in Path(f"/proc/{pid}/net/route").read_text().splitlines()[1:]]
    return sum(row[2] != "00000000" and row[1] != "00000000" for row in rows)

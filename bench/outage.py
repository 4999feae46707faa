"""``python -m bench.outage [SHAPE[:FAILOVER]…]``: what pods lose while something fails, into docs/bgp.md.

A lab for each shape (mesh, reflectors, routers) and each ``failover``; two pods send each other 1000
datagrams a second, and the receiver counts: each that is missing is a millisecond of the worse direction. A
node that dies takes its pods along: of it the time is told until another node's kernel has no route there.
Each figure is the median of ``RUNS``; all three shapes take about twenty minutes. What fails leaves its
figures as they were, and the exit code is 1.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "lab"))

from streams import Pod, running  # noqa: E402

from podway.agent.speaker import CALM  # noqa: E402
from podway.lab import control, lab, topology_file  # noqa: E402
from podway.lab.faults import Fault  # noqa: E402
from podway.lab.place import Place  # noqa: E402

RATE = 1000  # datagrams a second, each direction
MODES = ("fast", "hitless", "both")
RUNS = 3
BEFORE, AFTER = 0.5, 4.0  # seconds of traffic around an event
LONGEST = 60.0  # seconds for which pods that don't reach each other are waited for
SETTLED = 90.0
FRR = {"asNumber": 64512, "reflector": True, "bfd": True}
PAGE = ROOT / "docs" / "bgp.md"
LATEST = ROOT / "bench" / "outage.json"
BEGIN, END = "<!-- python -m bench.outage -->\n", "<!-- end -->\n"


def _document(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "podway.dev/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def _peer(name: str, number: int, address: str, selector: str = "") -> dict[str, Any]:
    spec = {"asNumber": number, "peerAddress": address, "bfd": True, "software": "frr"}
    return _document("BGPPeer", name, spec | ({"nodeSelector": selector} if selector else {}))


def _shape(name: str, mode: str) -> dict[str, Any]:
    """A lab as its file would say."""
    network = {"preset": "calico-bgp", "pools": [{"cidr": "10.244.0.0/16"}]}
    mesh = "on" if name == "mesh" else "off"
    documents = [
        _document("Network", "pods", network),
        _document("BGPConfiguration", "default", {"mesh": mesh, "failover": mode}),
    ]
    segments: dict[str, Any] = {"left": {"cidrs": ["192.0.2.0/24"]}}
    nodes = {node: {"segment": "left", "pods": 1} for node in ("node1", "node2", "node3")}
    found: dict[str, Any] = {"segments": segments, "nodes": nodes, "documents": documents}
    if name == "reflectors":
        found["hosts"] = {one: {"segment": "left", "bgp": FRR} for one in ("r1", "r2")}
        documents += [_peer("r1", 64512, "192.0.2.4"), _peer("r2", 64512, "192.0.2.5")]
    if name == "routers":
        segments["right"] = {"cidrs": ["203.0.113.0/24"]}
        nodes["node2"]["segment"] = "right"
        both = ["left", "right"]
        found["routers"] = {
            tor: {"segments": both, "bgp": {"asNumber": 65001, "bfd": True}} for tor in ("tor1", "tor2")
        }
        for node, rack, prefix in (
            ("node1", "l", "192.0.2"),
            ("node2", "r", "203.0.113"),
            ("node3", "l", ""),
        ):
            documents.append(_document("Node", node, {"labels": {"rack": rack}}))
            for tor, last in (("tor1", 254), ("tor2", 253)) if prefix else ():
                documents.append(_peer(f"{tor}-{rack}", 65001, f"{prefix}.{last}", f"rack={rack}"))
    return found


class Bench:
    """A lab that is up. ``node2`` is what things happen to, unless ``ENDED`` says otherwise."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._told = itertools.count(1)
        self._ended: dict[str, float] = {}

    def run(self, target: str, *words: str) -> str:
        return lab.run(self._place, target, *words)

    def bgp(self, node: str) -> dict[str, Any]:
        # exit code 1 means that it names problems
        found: dict[str, Any] = json.loads(self.run(node, "sh", "-c", "podway bgp status -o json || true"))
        return found

    def settle(self) -> None:
        """Until every session is up, BFD's too, and the pods reach each other."""
        deadline = time.monotonic() + SETTLED
        while time.monotonic() < deadline:
            try:
                peers = [peer for node in ("node1", "node2", "node3") for peer in self.bgp(node)["peers"]]
                up = all(p["state"] == "Established" and p["bfd"] in ("", "Up") for p in peers)
            except Exception:  # whatever is not there yet
                peers, up = [], False
            if peers and up and self.reaches():
                time.sleep(1.5)
                return
            time.sleep(0.3)
        raise AssertionError("the lab does not settle")

    def reaches(self) -> bool:
        """Whether one of the two pods reaches the other, there and back."""
        command = ["ping", "-c1", "-W1", self.pods()[1].addresses[0]]
        done = subprocess.run(lab.command(self._place, "node1-1", command), capture_output=True)
        return done.returncode == 0

    def pods(self) -> list[Pod]:
        found = []
        for name in ("node1-1", "node2-1"):
            shown = json.loads(self.run(name, "ip", "-j", "-4", "address", "show", "dev", "eth0"))
            address = shown[0]["addr_info"][0]["local"]
            found.append(Pod(name, str(self._place.namespace(name)), [address]))
        return found

    def lost(self, event: Callable[[], None]) -> float:
        """Milliseconds of the worse direction."""
        with running(self.pods(), rate=RATE) as traffic:
            time.sleep(BEFORE)
            event()
            time.sleep(AFTER)
            end = time.monotonic() + LONGEST
            while not self.reaches() and time.monotonic() < end:
                pass
        return max(flow.lost + flow.refused for flow in traffic.flows) * 1000 / RATE

    def noticed(self, event: Callable[[], None]) -> float:
        """Milliseconds until node1 has no route to node2's block any more."""
        block = self.bgp("node2")["own"][0]
        command = lab.command(self._place, "node1", ["ip", "-ts", "monitor", "route"])
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as monitor:
            assert monitor.stdout is not None
            time.sleep(BEFORE)
            event()
            begun = time.time()
            try:
                os.set_blocking(monitor.stdout.fileno(), False)
                while time.time() < begun + 180:
                    if any(f"Deleted {block}" in line for line in monitor.stdout.readlines()):
                        return round((time.time() - begun) * 1000)
                    time.sleep(0.005)
            finally:
                monitor.kill()
        return float("inf")

    # what happens ----------------------------------------------------------------------------------

    def rest(self, node: str) -> None:
        """Until the agent takes the end of a node's BIRD for the first: else it leaves it for a while."""
        now = time.monotonic()
        time.sleep(max(0.0, self._ended.get(node, -CALM) + CALM + 1 - now))
        self._ended[node] = time.monotonic()

    def bird(self, node: str) -> str:
        return str(self.bgp(node)["pid"])

    def cut(self, name: str) -> Callable[[], None]:
        return lambda: control.partition(self._place, Fault(one=(name,)))

    def agent_killed(self) -> None:
        find = "for p in $(pgrep -f '[a]gent --listen'); do tr '\\0' '\\n' </proc/$p/environ"
        self.run("node2", "sh", "-c", f"{find} | grep -qx PODWAY_NODE=node2 && kill -9 $p; done; true")
        self.run("node2", "sh", "-c", "setsid podway agent --listen '' >/dev/null 2>&1 &")

    def bird_killed(self) -> None:
        self.run("node2", "kill", "-9", self.bird("node2"))

    def bird_restarted(self) -> None:
        control_socket = self._place.node("node2") / "state" / "bird" / "bird.ctl"
        self.run("node2", "birdc", "-s", str(control_socket), "graceful", "restart")

    def told_more(self) -> None:
        spec = {"prefixes": [f"198.51.100.{next(self._told)}/32"]}
        text = json.dumps(_document("BGPAdvertisement", "more", spec))
        self.run("node1", "sh", "-c", f"echo '{text}' >/tmp/more.json; podway apply -f /tmp/more.json")

    def bird_hangs(self) -> None:
        pid = self.bird("node1")
        self.run("node1", "sh", "-c", f"kill -STOP {pid}; sleep 3; kill -CONT {pid} 2>/dev/null; true")

    def link_down(self) -> None:
        way = "ip route show default; ip link set eth0 down; sleep 1; ip link set eth0 up"
        self.run("node2", "sh", "-c", f"{way}; ip route replace default via 203.0.113.254 2>/dev/null; true")

    def measure(self, shape: str) -> Iterator[tuple[str, float]]:
        """(event, milliseconds), once each; the lab is settled before and after."""
        for words, event in {
            "agent: SIGKILL, and started": self.agent_killed,
            "BIRD: SIGKILL": self.bird_killed,
            "BIRD hangs for 3 s": self.bird_hangs,
            "configuration changed": self.told_more,
            "link down for 1 s": self.link_down,
            "BIRD: clean restart": self.bird_restarted,
            "reflector dies, one of two": self.cut("r1"),
            "ToR dies": self.cut("tor1"),
            "node dies: noticed after": self.cut("node2"),
        }.items():
            if words in EVENTS[shape]:
                if words in ENDED:
                    self.rest(ENDED[words])
                yield words, (self.noticed if "noticed" in words else self.lost)(event)
                control.heal(self._place)
                self.settle()


def measured(shape: str, mode: str) -> dict[str, float]:
    """Event → milliseconds, of one lab."""
    name = f"outage{os.getpid()}"
    taken: dict[str, list[float]] = {}
    with lab.terminable():
        place, _ = lab.up(name, topology_file.decode(_shape(shape, mode)), None, lambda _: None)
        try:
            bench = Bench(place)
            bench.settle()
            for _ in range(RUNS):
                for event, milliseconds in bench.measure(shape):
                    print(f"{shape:12} {mode:8} {event:30} {milliseconds:8.0f} ms", flush=True)
                    taken.setdefault(event, []).append(milliseconds)
        finally:
            lab.destroy(place)
    return {event: statistics.median(runs) for event, runs in taken.items()}


ONE_NODE = (
    "agent: SIGKILL, and started",
    "BIRD: SIGKILL",
    "BIRD: clean restart",
    "configuration changed",
    "BIRD hangs for 3 s",
    "link down for 1 s",
)
#: whose BIRD ends, or may
ENDED = {"BIRD: SIGKILL": "node2", "BIRD: clean restart": "node2", "BIRD hangs for 3 s": "node1"}
DIES = "node dies: noticed after"
EVENTS = {
    "mesh": (*ONE_NODE, DIES),
    "reflectors": (*ONE_NODE, "reflector dies, one of two", DIES),
    "routers": ("ToR dies",),
}
WORDS = {
    "mesh": "nodes in a mesh, by BIRD",
    "reflectors": "two external FRR reflectors",
    "routers": "two top-of-rack routers, by FRR",
}


Figures = dict[str, dict[str, dict[str, float]]]  # shape → failover → event → milliseconds


def table(taken: Figures) -> str:
    """As Markdown."""
    lines = ["| | `fast` | `hitless` | `both` |", "|---|---|---|---|"]
    for shape, words in WORDS.items():
        modes = taken.get(shape, {})
        lines.append(f"| **{words}** | | | |")
        for event in EVENTS[shape]:
            cells = [f"{modes[mode][event]:.0f}" if event in modes.get(mode, {}) else "" for mode in MODES]
            lines.append(f"| {event} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", f"Each figure is the median of {RUNS} runs.", ""])


def _write(taken: Figures) -> None:
    LATEST.write_bytes(msgspec.json.format(msgspec.json.encode(taken)) + b"\n")
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}{table(taken)}{END}{after}" if rest else page)


def main() -> int:
    """Measure the shapes named, all by default; the others' figures stay as they were. The exit code."""
    taken: Figures = msgspec.json.decode(LATEST.read_bytes()) if LATEST.exists() else {}
    code = 0
    for wish in sys.argv[1:] or WORDS:
        shape, _, only = wish.partition(":")
        for mode in [only] if only else MODES:
            try:
                taken.setdefault(shape, {})[mode] = measured(shape, mode)
            except Exception:  # the others are measured all the same
                traceback.print_exc()
                print(f"{shape:12} {mode:8} failed", flush=True)
                code = 1
            _write(taken)
    return code


if __name__ == "__main__":
    sys.exit(main())

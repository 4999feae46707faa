"""A lab with an ExaBGP that lies: what it says is filtered, counted and limited, and pods notice nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from changing import POOLS, Lab, document
from lab_tools import running
from streams import running as traffic

from podway.lab.lab import command
from podway.lab.place import find

pytestmark = pytest.mark.kernel
NAME = f"h{os.getpid()}"
NODES = ("192.0.2.1", "192.0.2.2")
LIAR = "192.0.2.3"
RIGHT = "10.244.250.0/26"  # nobody's, and so its own to tell
LIMIT = 200
PATIENCE = 400.0  # seconds: ExaBGP takes minutes to read 100 000 routes


def until(what: str, holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


TOPOLOGY = {
    "segments": {"lan": {"cidrs": ["192.0.2.0/24"]}},
    "nodes": {name: {"segment": "lan", "pods": 1} for name in ("node1", "node2")},
    "hosts": {"liar": {"segment": "lan"}},
    "documents": [
        document("Network", "pods", {"preset": "calico-bgp", "pools": POOLS[:1]}),
        document("BGPPeer", "liar", {"asNumber": 65001, "peerAddress": LIAR, "maxPrefixes": LIMIT}),
    ],
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Two nodes in a mesh, and a host that both speak BGP with."""
    file: Path = tmp_path_factory.mktemp("lab") / "lab.json"
    file.write_text(json.dumps(TOPOLOGY))
    with running(NAME, "-f", str(file)) as name:
        yield Lab(name, 2)


@contextmanager
def telling(directory: Path, *routes: str) -> Iterator[None]:
    """A real ExaBGP on the host for the body, which tells both nodes ``routes``."""
    lines = "\n".join(f"        route {route};" for route in routes)
    parts = [
        f"""
neighbor {node} {{
    router-id {LIAR};
    local-address {LIAR};
    local-as 65001;
    peer-as 64512;
    family {{ ipv4 unicast; }}
    static {{
{lines}
    }}
}}"""
        for node in NODES
    ]
    file = directory / "exabgp.conf"
    file.write_text(textwrap.dedent("\n".join(parts)))
    words = [str(Path(sys.executable).with_name("exabgp")), "server", str(file)]
    started = subprocess.Popen(
        command(find(NAME), "liar", words),
        env=os.environ | {"exabgp_daemon_user": "root", "exabgp_tcp_bind": ""},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        os.killpg(started.pid, signal.SIGKILL)
        started.wait()


def peer(lab: Lab, node: str = "node1") -> dict[str, Any]:
    """The session with the liar, as ``podway bgp peers`` has it."""
    found = json.loads(lab.inside(node, "podway", "bgp", "peers", "-o", "json"))
    return next(one for one in found if one["neighbor"] == LIAR)


def filtered(lab: Lab, node: str = "node1") -> int:
    """How many of the liar's routes were let through neither to others nor to the kernel."""
    count: int = peer(lab, node)["channels"].get("ipv4", {}).get("filtered", 0)
    return count


def status(lab: Lab) -> str:
    return lab.inside("node2", "podway", "bgp", "status", check=None)


def learned(lab: Lab, node: str = "node1") -> dict[str, str]:
    """Prefix → next hop of the kernel's routes that BIRD programs."""
    found = json.loads(lab.inside(node, "ip", "-j", "-4", "route", "show", "proto", "bird"))
    return {route["dst"]: route["gateway"] for route in found}


def test_what_a_liar_tells_is_filtered_and_counted(lab: Lab, tmp_path: Path) -> None:
    """A default route, both nodes' blocks, the underlay, loopback, and attributes that are malformed."""
    blocks = {node: lab.block_of(node) for node in lab.nodes}
    lies = ["0.0.0.0/0", *blocks.values(), "192.0.2.0/24", "192.0.2.2/32", "127.0.0.0/8"]
    # a part of a block, and a pod's address: in every kernel these would go before the block
    lies += [blocks["node2"].replace("/26", "/27"), blocks["node2"].replace("/26", "/32")]
    routes = [f"{prefix} next-hop {LIAR}" for prefix in (*lies, RIGHT)]
    # an AGGREGATOR of one byte: left out, and the route stays (RFC 7606, 7.7)
    routes.append(f"10.244.251.0/26 next-hop {LIAR} attribute [ 0x07 0xc0 0x01 ]")
    before = learned(lab)
    assert before == {blocks["node2"]: NODES[1]}
    with traffic(lab.pods(), rate=100) as seen:
        with telling(tmp_path, *routes):
            expected = before | {RIGHT: LIAR, "10.244.251.0/26": LIAR}
            until("what is right is taken", lambda: learned(lab) == expected)
            # default, one's own block, two parts, the underlay twice; loopback is no route at all for BIRD
            until("lies are counted", lambda: filtered(lab) == 6 and filtered(lab, "node2") == 6)
            known = {blocks["node1"], RIGHT, "10.244.251.0/26"}
            until("node2 too", lambda: learned(lab, "node2").keys() == known)
            assert learned(lab, "node2")[blocks["node1"]] == NODES[0]
        until("what it told goes with it", lambda: learned(lab) == before)
    seen.verify(least=10)


def test_an_unknown_attribute_that_everybody_must_know_takes_no_route_in(lab: Lab, tmp_path: Path) -> None:
    bad = f"10.244.77.0/26 next-hop {LIAR} attribute [ 0x63 0x40 0x01 ]"
    flaps = peer(lab)["flaps"]
    with traffic(lab.pods(), rate=100) as seen, telling(tmp_path, bad, f"{RIGHT} next-hop {LIAR}"):
        until("it was heard", lambda: peer(lab)["flaps"] > flaps or RIGHT in learned(lab))
        assert "10.244.77.0/26" not in learned(lab)
    until("what it told goes with it", lambda: RIGHT not in learned(lab))
    seen.verify(least=10)


@pytest.mark.parametrize("count", [3 * LIMIT, pytest.param(100_000, marks=pytest.mark.soak)])
def test_too_many_prefixes_end_its_session_and_nothing_else(lab: Lab, tmp_path: Path, count: int) -> None:
    """Within the pools, and so not filtered: beyond ``maxPrefixes`` the session ends, in words."""
    many = [
        f"10.{244 + (i >> 16)}.{i >> 8 & 255}.{i & 255}/32 next-hop {LIAR}" for i in range(1024, 1024 + count)
    ]
    before = learned(lab)
    pids = bird(lab)
    with traffic(lab.pods(), rate=100) as seen:
        with telling(tmp_path, *many):
            for node in lab.nodes:
                until("the limit holds", lambda node=node: f"more than {LIMIT}" in peer(lab, node)["why"])
            now = learned(lab)  # it calls again, and again
            assert before.items() <= now.items() and len(now) <= len(before) + LIMIT
            assert bird(lab) == pids
            until("status says so", lambda: f"more than {LIMIT} prefixes" in status(lab))
    until("what it told goes with it", lambda: learned(lab) == before)
    seen.verify(least=10)


def bird(lab: Lab) -> list[int]:
    """The process of each node's BIRD."""
    words = ("podway", "bgp", "status", "-o", "json")
    return [json.loads(lab.inside(node, *words, check=None))["pid"] for node in lab.nodes]

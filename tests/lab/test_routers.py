"""Labs whose routers speak BGP by a real FRR: a top-of-rack router, two of them, a reflector."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lab_tools import podway, running
from test_examples import EXAMPLES, ROUTED

from podway.lab import frr, topology_file
from podway.model.documents import InvalidDocument
from podway.model.errors import Unavailable

kernel = pytest.mark.kernel
NAME = f"r{os.getpid()}"
PATIENCE = 60.0


def inside(target: str, *command: str, check: int | None = 0) -> str:
    return podway("exec", "--name", NAME, target, "--", *command, check=check).stdout


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, condition
        time.sleep(0.2)


def up(example: str) -> Any:
    return running(NAME, "-f", str(EXAMPLES / f"{example}.yaml"))


def all_reached(example: str) -> None:
    done = podway("test", "--name", NAME, check=None)
    pairs = ROUTED[example]
    assert done.stdout.splitlines()[-1] == f"{pairs} of {pairs} pairs reached, no NAT inside", done.stdout


def told(router: str, family: str = "ipv4") -> dict[str, Any]:
    """Prefix → its paths, as FRR's shell shows them."""
    found = json.loads(inside(router, "vtysh", "-N", router, "-c", f"show bgp {family} unicast json"))
    routes: dict[str, Any] = found["routes"]
    return routes


def learned(node: str) -> dict[str, list[str]]:
    """Prefix → next hops of what BIRD programmed."""
    routes = json.loads(inside(node, "ip", "-j", "route", "show", "proto", "bird"))
    return {one["dst"]: sorted(hop["gateway"] for hop in one.get("nexthops", [one])) for one in routes}


def learns(node: str, *hops: list[str]) -> None:
    """Wait until BIRD programmed exactly these next hops: pairs are reached when the first session is up."""
    until(lambda: sorted(learned(node).values()) == sorted(hops))


def peers(node: str) -> list[tuple[str, str]]:
    """State and BFD's of every session."""
    found = json.loads(inside(node, "podway", "bgp", "peers", "-o", "json"))
    return [(one["state"], one["bfd"]) for one in found]


def sessions_down(node: str) -> list[str]:
    """What is said of them, in its order."""
    return [one for one in status(node)["problems"] if "BGP session with" in one]


@kernel
def test_a_top_of_rack_router() -> None:
    """It has a path to every node's block, by that node; nodes have each other's, past the router."""
    with up("bgp-tor"):
        all_reached("bgp-tor")
        for family, length in (("ipv4", "/26"), ("ipv6", "/122")):
            until(lambda family=family: len(told("tor", family)) == 3)
            routes = told("tor", family)
            assert all(prefix.endswith(length) for prefix in routes)
            assert {path["path"] for paths in routes.values() for path in paths} == {"64512"}
        learns("node1", ["192.0.2.2"], ["192.0.2.3"])
        assert learned("node1").keys() < told("tor").keys()
        until(lambda: peers("node1") == [("Established", "Up")] * 2)


PEER = """
apiVersion: podway.dev/v1
kind: BGPPeer
metadata: {{name: tor}}
spec: {{asNumber: 65001, peerAddress: 192.0.2.254, bfd: true, software: frr, password: "{password}"}}
"""


def declare(password: str = "") -> None:
    command = ["podway", "apply", "-f", "-"]
    podway("exec", "--name", NAME, "node1", "--", *command, stdin=PEER.format(password=password))


def named(words: str) -> None:
    """The table of peers and the agent's problems say it of the session with the router."""
    until(lambda: words in inside("node1", "podway", "bgp", "peers"))
    until(lambda: any(words in one for one in status("node1")["problems"] if "BGPPeer tor" in one))


LARGE = """
apiVersion: podway.dev/v1
kind: BGPConfiguration
metadata: {name: default}
spec: {mesh: "on", meshLimit: 2, failover: both}
"""


def shell(*lines: str) -> None:
    """The router's, line by line."""
    inside("tor", "vtysh", "-N", "tor", *(word for line in lines for word in ("-c", line)))


def status(node: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(inside(node, "podway", "status", "-o", "json", check=None))
    return found


def diagnosed(*words: str) -> None:
    """Wait until ``podway doctor`` on node1 says all of it: a session may just be coming up."""

    def said() -> bool:
        report = inside("node1", "podway", "doctor", check=None)
        return all(one in report for one in words)

    until(said)


@kernel
def test_what_is_wrong_with_a_router_is_said_in_words() -> None:
    """Password, a filter of BFD one way, a cut, no graceful restart, a mesh that is too large, a speaker that
    has ended; journal and log have it, and doctor."""
    with up("bgp-tor"):
        declare(password="secret")
        named("the password differs, or isn't set on the peer")
        declare()
        until(lambda: peers("node1") == [("Established", "Up")] * 2 and not status("node1")["problems"])
        for fault, words in (
            (
                ["node1", "tor", "--only", "udp/3784", "--one-way"],
                "UDP port 3784 let through from here to there",
            ),
            (["tor"], "or the way to it is down; look at its console"),
        ):
            podway("partition", "--name", NAME, *fault)
            named(words)
            podway("heal", "--name", NAME)
            until(lambda: peers("node1") == [("Established", "Up")] * 2)
        shell("configure terminal", "router bgp 65001", "bgp graceful-restart-disable", "end", "clear bgp *")
        named("it does no graceful restart (RFC 4724)")
        command = ["podway", "apply", "-f", "-"]
        podway("exec", "--name", NAME, "node1", "--", *command, stdin=LARGE)
        diagnosed(
            "it does no graceful restart (RFC 4724)",
            "each of 3 nodes has a session with every other, more than meshLimit",
        )
        inside("tor", "sh", "-c", "kill -KILL $(cat /run/frr/tor/bgpd.pid)")
        named("nothing listens on TCP port 179 there")
        diagnosed("BGPPeer tor (192.0.2.254): ", "nothing listens on TCP port 179 there")
        problems = [one for one in status("node1")["problems"] if "meshLimit" not in one]
        assert problems[0].startswith("BGP session"), problems
        journal = inside("node1", "podway", "journal")
        assert "up         bgp BGPPeer tor 192.0.2.254\n" in journal
        lost = [one for one in journal.splitlines() if "lost       bgp BGPPeer tor 192.0.2.254  " in one]
        assert any("or the way to it is down; look at its console" in one for one in lost), lost
        assert not any("no link of this node" in one for one in lost), lost
        log = Path(f"/run/podway/lab/{NAME}/node1/agent.log").read_text()
        assert '"message":"BGP session lost"' in log


@kernel
def test_two_racks_go_on_by_the_other_router() -> None:
    """Both routers carry; one that is cut off is left out, and taken in again."""
    with up("two-racks"):
        all_reached("two-racks")
        both = ["192.0.2.253", "192.0.2.254"]
        learns("a1", ["192.0.2.2"], both, both)
        podway("partition", "--name", NAME, "tor1")
        for node, near in (("a1", "192.0.2.2"), ("a2", "192.0.2.1")):
            learns(node, [near], ["192.0.2.253"], ["192.0.2.253"])
        for node, near in (("b1", "203.0.113.2"), ("b2", "203.0.113.1")):
            learns(node, [near], ["203.0.113.253"], ["203.0.113.253"])
        assert "12 of 12 pairs" in podway("test", "--name", NAME, "--between", "pods").stdout
        podway("heal", "--name", NAME)
        learns("a1", ["192.0.2.2"], both, both)


@kernel
def test_racks_that_are_networks_of_their_own() -> None:
    """Nodes have their mesh over the routers; blocks of the other rack are beyond the own router, which knows
    them. One that is down is named before the nodes that are lost with it."""
    with up("leaf-spine"):
        forwards = ("ip", "-j", "-4", "route", "show", "proto", "bgp")
        for leaf in ("leaf-a", "leaf-b"):  # which know the pods some moments after the nodes do
            until(lambda leaf=leaf: len(json.loads(inside(leaf, *forwards))) == 4)
        all_reached("leaf-spine")
        until(lambda: [state for state, _ in peers("a1")] == ["Established"] * 4)
        learns("a1", ["192.0.2.2"], ["192.0.2.254"], ["192.0.2.254"])
        until(lambda: len(told("leaf-a")) == 4)
        podway("partition", "--name", NAME, "leaf-a")
        until(lambda: len(sessions_down("a1")) == 3)
        # BFD's word is among the details, which are read more rarely
        until(lambda: "BFD does not hear it either" in sessions_down("a1")[0])
        assert "BGPPeer leaf-a" in sessions_down("a1")[0]
        podway("heal", "--name", NAME)
        until(lambda: [state for state, _ in peers("a1")] == ["Established"] * 4)


@kernel
def test_an_external_reflector() -> None:
    """One session a node; what the reflector tells has the nodes as next hops, and it forwards nothing."""
    with up("frr-reflector"):
        all_reached("frr-reflector")
        until(lambda: len(told("reflector")) == 3)
        assert inside("reflector", "ip", "route", "show", "proto", "bgp") == ""
        learns("node1", ["192.0.2.2"], ["192.0.2.3"])


LAN: dict[str, Any] = {
    "segments": {"lan": {"cidrs": ["192.0.2.0/24"]}, "far": {"cidrs": ["203.0.113.0/24"]}},
    "nodes": {"n": {"segment": "lan"}},
    "routers": {"tor": {"segments": ["lan", "far"], "bgp": {"asNumber": 65001}}},
}


@pytest.mark.parametrize(
    ("routers", "path", "words"),
    [
        ({"tor": {"segments": ["lan"], "bgp": {"asNumber": 0}}}, "routers.tor.bgp.asNumber", "no AS number"),
        (
            {"tor": {"segments": ["lan"], "bgp": {"asNumber": 1, "nodesAs": 1 << 32}}},
            "routers.tor.bgp.nodesAs",
            "no AS",
        ),
        ({"tor": {"segments": ["lan"], "bgp": {}}}, "routers.tor.bgp", "asNumber"),
        ({"tor": {"segments": ["lan"], "bgp": {"asNumber": 1, "bdf": True}}}, "routers.tor.bgp", "bdf"),
        (
            {"tor": {"segments": ["lan"], "bgp": {"asNumber": 65001, "reflector": True}}},
            "routers.tor.bgp.reflector",
            "of the nodes' AS, 64512",
        ),
        ({"tor": {"segments": ["far"], "bgp": {"asNumber": 65001}}}, "routers.tor.bgp", "no node"),
    ],
)
def test_what_no_router_can_be_told(routers: dict[str, Any], path: str, words: str) -> None:
    with pytest.raises(InvalidDocument) as raised:
        topology_file.decode(LAN | {"routers": routers})
    (problem,) = raised.value.problems
    assert problem.path == path and words in problem.what


def test_routers_speak_with_each_other_where_no_nodes_are() -> None:
    """A spine: the racks' routers call each other there, and take nodes' calls in the rack."""
    routers = {
        name: {"segments": ["lan", "far"], "bgp": {"asNumber": 65000 + n}} for n, name in enumerate("ab", 1)
    }
    lab = topology_file.decode(LAN | {"routers": routers})
    text = frr.configuration(lab, lab.machine("a"))
    assert " neighbor 203.0.113.253 remote-as 65002\n" in text and "192.0.2.253" not in text
    assert " bgp listen range 192.0.2.0/24 peer-group nodes4\n" in text
    assert "listen range 203" not in text


def test_an_frr_that_is_missing_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frr, "BINARIES", Path("/nowhere"))
    with pytest.raises(Unavailable) as raised:
        frr.require(topology_file.decode(LAN))
    assert "FRR is not installed" in str(raised.value) and raised.value.fix == "apt install frr"

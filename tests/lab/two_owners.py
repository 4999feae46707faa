"""A lab in which BGP carries one network and the agents another: who has programmed which route."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from changing import Lab, until
from lab_tools import podway, running

from podway.model import bgp
from podway.model.objects import ROUTE_PROTOCOL

NODES = ("node1", "node2")
PREFIXES = {"told": "10.244.", "sent": "10.245."}  # network → how its IPv4 addresses begin


@contextlib.contextmanager
def two_owners(directory: Path, transport: str) -> Iterator[Lab]:
    """Network "told" by BGP and network "sent" by the transport, a pod of each on each of two nodes."""
    networks = [
        {
            "apiVersion": "podway.dev/v1",
            "kind": "Network",
            "metadata": {"name": name},
            "spec": {"attach": "routed", "transport": by, "pools": [{"cidr": f"{PREFIXES[name]}0.0/16"}]},
        }
        for name, by in (("told", "bgp"), ("sent", transport))
    ]
    pods = {node: [{"name": f"{node}-{name}", "network": name} for name in PREFIXES] for node in NODES}
    topology = {
        "segments": {"lan": {"cidrs": ["192.0.2.0/24"]}},
        "nodes": {node: {"segment": "lan", "pods": pods[node]} for node in NODES},
        "documents": networks,
    }
    file = directory / "lab.json"
    file.write_text(json.dumps(topology))
    with running(f"o{os.getpid()}", "-f", str(file)) as name:
        yield Lab(name, len(NODES))


def _routes(lab: Lab, node: str, network: str) -> list[dict[str, Any]]:
    """All that lead out of a node to the network's addresses."""
    routes = json.loads(lab.inside(node, "ip", "-j", "-N", "route", "show", "table", "all"))
    return [one for one in routes if one["dst"].startswith(PREFIXES[network]) and "gateway" in one]


def owned(lab: Lab) -> bool:
    """Whether each of the peer's two blocks has one route: BIRD's, and the agent's."""
    for node in NODES:
        (told,), (sent,) = _routes(lab, node, "told") or [{}], _routes(lab, node, "sent") or [{}]
        if (told.get("protocol"), told.get("metric")) != ("12", bgp.METRIC):  # RTPROT_BIRD
            return False
        if sent.get("protocol") != str(ROUTE_PROTOCOL):
            return False
    return True


def told(lab: Lab, node: str) -> list[str]:
    """What BGP has brought to a node."""
    return [one["prefix"] for one in json.loads(lab.inside(node, "podway", "bgp", "routes", "-o", "json"))]


def each_has_one_owner(lab: Lab, patience: float) -> None:
    """From the start, after a route of each was deleted, and after the processes of both were killed."""
    until("each block has one route", lambda: owned(lab), patience)
    for network in PREFIXES:
        (route,) = _routes(lab, "node1", network)
        lab.inside("node1", "ip", "route", "del", route["dst"], "proto", route["protocol"])
        until(f"the route of {network} is back", lambda: owned(lab), patience)
    pid = json.loads(lab.inside("node1", "podway", "bgp", "status", "-o", "json", check=None))["pid"]
    lab.inside("node1", "kill", "-9", str(pid))
    os.kill(lab.agent_of("node1"), signal.SIGKILL)
    until("the agent is gone", lambda: not lab.has_agent("node1"), patience)
    lab.start_agent("node1")
    lab.inside("node1", "podway", "status", "--wait", "--timeout", str(patience))
    until("both are at work again", lambda: len(told(lab, "node1")) == 1 and owned(lab), patience)
    for node in NODES:
        assert all(prefix.startswith(PREFIXES["told"]) for prefix in told(lab, node))
    podway("test", "--name", lab.name, "--between", "pods")

"""What node a is told of a rack's router, and a router's configuration as FRR reads it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from bird_pair import FAR4, NEAR4, NEAR6, Pair, run

from podway.bird.replies import SessionState
from podway.model.bgp import Speaker
from podway.model.documents import decode
from podway.model.resources import Bgp, BgpResource, Block, BlockSpec, Node, NodeFacts, NodeSpec, Uplink
from podway.plan.bgp import Cluster, speaker

OWN = "10.244.1.0/26"
POOL = "10.244.0.0/16"
FACTS = NodeFacts(name="a", uplinks=(Uplink(name="up0", mtu=1500, addresses=(f"{NEAR4}/24",)),))


#: a BGPConfiguration's spec: no sessions but those with peers
QUIET = {"mesh": "off", "hold": 9, "keepalive": 3}


def told(*documents: tuple[str, str, dict[str, Any]], notes: bool = False) -> Speaker:
    """What node a is told: mesh off, and these (kind, name, spec). ``notes``: they are not all right."""
    kinds = ("BGPConfiguration", "BGPPeer", "BGPFilter", "BGPAdvertisement")
    found: dict[str, dict[str, Any]] = {kind: {} for kind in kinds}
    for kind, name, spec in (("BGPConfiguration", "default", QUIET), *documents):
        value = decode(
            {"apiVersion": "podway.dev/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}
        )
        assert isinstance(value, BgpResource)
        found[kind][name] = value.spec
    bgp = Bgp(
        configuration=found["BGPConfiguration"]["default"],
        peers=found["BGPPeer"],
        filters=found["BGPFilter"],
        advertisements=found["BGPAdvertisement"],
    )
    me = Node(name="a", spec=NodeSpec(addresses=(f"{NEAR4}/24", f"{NEAR6}/64")))
    block = Block(cidr=OWN, spec=BlockSpec(network="pods", node="a", attach="routed"))
    planned = speaker(Cluster(FACTS, {"a": me}, (block,), {"pods": (POOL,)}, bgp))
    assert planned.speaker is not None and bool(planned.notes) == notes
    return planned.speaker


def tor(**spec: Any) -> tuple[str, str, dict[str, Any]]:
    """The document of a BGPPeer."""
    return ("BGPPeer", "tor", {"asNumber": 65001, "peerAddress": FAR4} | spec)


def session(pair: Pair) -> SessionState:
    """The first of node a's sessions."""
    found: list[SessionState] = pair.do(pair.a.client.sessions())
    return found[0]


ROUTER = f"""
router bgp 65001
 bgp router-id {FAR4}
 no bgp ebgp-requires-policy
 no bgp network import-check
 timers bgp 3 9
 neighbor {NEAR4} remote-as 64512
 {{more}}
 address-family ipv4 unicast
  network 0.0.0.0/0
  network 10.244.9.0/26
  network 10.244.1.0/28
  network 203.0.113.0/24
  {{family}}
 exit-address-family
"""


def router(more: str = "", family: str = "") -> str:
    """The router's configuration, with further lines of its neighbor and of IPv4."""
    return ROUTER.format(more=more, family=family)


def learned() -> set[str]:
    """Prefixes that node a's BIRD has programmed."""
    return {line.split()[0] for line in run("ip", "route").splitlines() if "proto bird metric 2048" in line}


def exabgp(pair: Pair, configuration: str) -> None:
    """A real ExaBGP in the far namespace, ended with the test."""
    file = pair.directory / "exabgp.conf"
    file.write_text(textwrap.dedent(configuration))
    pair.daemon(
        str(Path(sys.executable).with_name("exabgp")),
        "server",
        str(file),
        env=os.environ | {"exabgp_daemon_user": "root", "exabgp_tcp_bind": ""},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

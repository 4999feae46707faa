"""What an agent says of itself."""

from __future__ import annotations

import time
from collections import Counter

import podway
from podway.agent import dhcp_report
from podway.agent.health import Health
from podway.agent.liveness import Liveness
from podway.agent.reports import AgentStatus
from podway.agent.sessions import BgpStatus
from podway.node import dhcp
from podway.node.engine import NodeEngine
from podway.plan import generation
from podway.plan.notes import Note, fold
from podway.probe import readiness


def _notes(engine: NodeEngine) -> list[Note]:
    of_leases = dhcp_report.notes(leases(engine))
    return [*engine.membership.standing.notes, *engine.planner.notes, *engine.flannel.notes, *of_leases]


def _vanished(engine: NodeEngine) -> list[str]:
    """Pods that ended behind the agent's back, and who frees what they had."""
    endpoints, pieces = engine.attachments.endpoints, engine.pieces.known
    return [
        f"pod {pod}: its namespace and its link {link} are gone, and nobody has asked for its end; its "
        f"runtime's DEL or GC{' or `podway ipam check --fix`' if pod in endpoints else ''} frees what it had"
        for link, pod in sorted(engine.reconciler.gone.items())
        if pod in endpoints or pod in pieces
    ]


def leases(engine: NodeEngine) -> list[dhcp_report.LeaseReport]:
    """The DHCP leases of this node's pods now."""
    return dhcp_report.reports(list(engine.pieces.known.values()), dhcp.now(), time.time())


def describe(
    engine: NodeEngine, started: float, health: Health, liveness: Liveness, bgp: BgpStatus
) -> AgentStatus:
    """The agent's status now. Reads only what the writer thread replaces as a whole."""
    problems = [*bgp.problems, *fold(_notes(engine))]  # a session that is down is why a peer is not reached
    for key, fragments in list(engine.planner.conflicts.items()):
        who = " and ".join(" ".join(fragment) for fragment in fragments)
        problems.append(f"{' '.join(key)}: wanted differently by {who}; neither is applied")
    problems += [f"{' '.join(key)}: {why}" for key, why in sorted(engine.reconciler.problems.items())]
    problems += _vanished(engine)
    cluster = engine.cluster
    if not cluster.snapshot.synced:
        problems.append(f"store: {cluster.trouble}; the last known state is kept, nothing is removed")
    blocks, borrows = cluster.snapshot.blocks.values(), cluster.snapshot.borrows.values()
    return AgentStatus(
        node=engine.node,
        version=podway.__version__,
        uptime=time.time() - started,
        store="synced" if cluster.snapshot.synced else cluster.trouble,
        endpoints=len(engine.attachments.endpoints),
        drop_in=len(
            {(one.container, one.ifname) for one in list(engine.pieces.known.values()) if one.container}
        ),
        blocks=tuple(sorted(block.cidr for block in blocks if block.spec.node == engine.node)),
        borrowed=tuple(sorted(one.address for one in borrows if one.spec.node == engine.node)),
        problems=tuple(problems),
        changing=(*generation.progress(engine.planner), *engine.resizer.left),
        desired=len(engine.planner.desired),
        programmed=engine.reconciler.programmed,
        ready=health.readiness.ready,
        readiness=readiness.sentence(health.readiness),
        peers=dict(Counter(peer.verdict.name for peer in health.verdicts().values())),
        failing=tuple(health.failing()),
        suspect=tuple(sorted(liveness.suspect)),
        bgp=bgp,
        probes=dict(health.probes),
    )

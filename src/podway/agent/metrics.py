"""Counters of the agent in Prometheus's text format; the library is imported at the first scrape.

Counting must cost nothing while nobody scrapes, so plain numbers are kept here and handed over.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from podway.agent.reports import AgentStatus
from podway.agent.sessions import BgpStatus
from podway.cni.protocol import Answer, Call
from podway.node.reconciler import Report
from podway.probe.verdict import ORDER

if TYPE_CHECKING:
    from prometheus_client.core import Metric

_calls: Counter[tuple[str, str]] = Counter()
_operations: Counter[tuple[str, str, str]] = Counter()


def count_call(call: Call, answer: Answer) -> None:
    """One CNI call was answered."""
    command = call.env.get("CNI_COMMAND", "")
    _calls[command, "ok" if answer.exit_code == 0 else "error"] += 1


def count_report(report: Report) -> None:
    """One pass was made."""
    for result in report.results:
        outcome = "error" if result.errno else "ok"
        _operations[result.op.key[0], result.op.verb, outcome] += 1


def render(status: AgentStatus) -> bytes:
    """The page of ``/metrics``."""
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry()
    registry.register(_Collector(status))
    return generate_latest(registry)


class _Collector:
    """What the library asks for metrics; each scrape has one of its own."""

    def __init__(self, status: AgentStatus) -> None:
        self._status = status

    def collect(self) -> list[Metric]:
        status = self._status
        return [*_of_work(), *_of_node(status), *_of_peers(status), *of_bgp(status.bgp)]


def _of_work() -> list[Metric]:
    from prometheus_client.core import CounterMetricFamily

    calls = CounterMetricFamily("podway_cni_calls", "CNI calls answered", labels=["command", "outcome"])
    for labels, count in _calls.items():
        calls.add_metric(labels, count)
    operations = CounterMetricFamily(
        "podway_kernel_operations", "Changes made in the kernel", labels=["kind", "verb", "outcome"]
    )
    for names, count in _operations.items():
        operations.add_metric(names, count)
    return [calls, operations]


def _of_node(status: AgentStatus) -> list[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    return [
        GaugeMetricFamily("podway_endpoints", "Pod interfaces attached", value=status.endpoints),
        GaugeMetricFamily("podway_blocks", "Blocks owned", value=len(status.blocks)),
        GaugeMetricFamily(
            "podway_borrowed_addresses", "Addresses of other nodes' blocks", value=len(status.borrowed)
        ),
        GaugeMetricFamily("podway_desired_objects", "Kernel objects wanted", value=status.desired),
        GaugeMetricFamily("podway_problems", "Wants that can't be met", value=len(status.problems)),
        GaugeMetricFamily("podway_store_synced", "1 if synced", value=status.store == "synced"),
        GaugeMetricFamily("podway_uptime_seconds", "Since the start", value=status.uptime),
    ]


def _of_peers(status: AgentStatus) -> list[Metric]:
    """Labels are bounded: a thousand peers are counted by verdict, not listed."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    peers = GaugeMetricFamily("podway_peers", "Peers by what probes say of them", labels=["verdict"])
    for verdict in ORDER:
        peers.add_metric([verdict], status.peers.get(verdict, 0))
    probes = CounterMetricFamily("podway_probes", "Probes by what became of them", labels=["outcome"])
    for outcome, count in status.probes.items():
        probes.add_metric([outcome], count)
    paths = GaugeMetricFamily("podway_paths", "Ways to peers by what was chosen", labels=["path"])
    for path, count in status.paths.items():
        paths.add_metric([path], count)
    ready = GaugeMetricFamily("podway_ready", "1 once peers are programmed and probed", value=status.ready)
    suspect = GaugeMetricFamily(
        "podway_peers_suspect", "Nodes not heard of in the store", value=len(status.suspect)
    )
    return [peers, probes, paths, ready, suspect]


def of_bgp(status: BgpStatus) -> list[Metric]:
    """Of every session, by peer and address."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    who = ["peer", "address"]  # a peer of two families has a session of each
    up = GaugeMetricFamily("podway_bgp_session_up", "1 if established", labels=who)
    flaps = CounterMetricFamily("podway_bgp_flaps", "Times a session was lost", labels=who)
    bfd = GaugeMetricFamily("podway_bgp_bfd_up", "1 if BFD sees the peer", labels=who)
    labels = [*who, "family", "what"]
    prefixes = GaugeMetricFamily("podway_bgp_prefixes", "Routes of a session", labels=labels)
    for peer in status.peers:
        name = [peer.shown, peer.neighbor]
        up.add_metric(name, peer.state == "Established")
        flaps.add_metric(name, peer.flaps)
        if peer.bfd:
            bfd.add_metric(name, peer.bfd == "Up")
        for family, counts in peer.channels.items():
            for what in counts.__struct_fields__:
                prefixes.add_metric([*name, family, what], getattr(counts, what))
    return [up, flaps, bfd, prefixes]

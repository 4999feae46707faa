"""What ``/metrics`` has of BGP: each session's series once, also where a peer has two of them. No kernel."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from podway.agent import metrics
from podway.agent.sessions import BgpStatus, PeerStatus
from podway.bird.replies import Counts


def _peer(address: str, state: str, **more: object) -> PeerStatus:
    family = "ipv6" if ":" in address else "ipv4"
    known = {"flaps": 2, "bfd": "Up", "channels": {family: Counts(imported=3, filtered=1)}} | more
    return PeerStatus(
        name=f"n_{family}",
        description="node b",
        neighbor=address,
        remote_as=64512,
        state=state,
        since=0.0,
        why="",
        **known,  # type: ignore[arg-type]
    )


def test_sessions_prefixes_flaps_and_bfd() -> None:
    status = BgpStatus(
        peers=(
            _peer("192.0.2.2", "Established"),
            _peer("2001:db8::2", "Active", bfd="Down", channels={}, flaps=5),
        )
    )

    class Collector:
        def collect(self) -> Iterator[Metric]:
            yield from metrics.of_bgp(status)

    registry = CollectorRegistry()
    registry.register(Collector())  # type: ignore[arg-type]
    found = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        for sample in family.samples:
            key = (
                sample.name,
                *(sample.labels[one] for one in ("address", "family", "what") if one in sample.labels),
            )
            assert key not in found and sample.labels["peer"] == "node b"
            found[key] = sample.value
    assert (
        found["podway_bgp_session_up", "192.0.2.2"] == 1
        and found["podway_bgp_session_up", "2001:db8::2"] == 0
    )
    assert (
        found["podway_bgp_flaps_total", "192.0.2.2"] == 2
        and found["podway_bgp_flaps_total", "2001:db8::2"] == 5
    )
    assert found["podway_bgp_bfd_up", "192.0.2.2"] == 1 and found["podway_bgp_bfd_up", "2001:db8::2"] == 0
    assert found["podway_bgp_prefixes", "192.0.2.2", "ipv4", "imported"] == 3
    assert found["podway_bgp_prefixes", "192.0.2.2", "ipv4", "filtered"] == 1

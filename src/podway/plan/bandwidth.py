"""Shaping a pod: a token bucket on its host link, and one on an IFB for what the pod sends.

The host link's egress is the pod's ingress. What the pod sends arrives at the host link's ingress,
where nothing can queue, so it is redirected to an IFB that can.
"""

from __future__ import annotations

from podway.model import names
from podway.model.objects import AnyObject, Filter, Link, Qdisc
from podway.model.resources import Endpoint

UNLIMITED_BURST = 0xFFFFFFFF  # what containerd sends when nobody asked for a burst
LATENCY = 0.025  # seconds that a packet may wait, as the reference plugin has it
SMALLEST_BURST = 65536  # bytes: one full GSO packet, or throughput collapses


def _bucket(link: str, rate: int, burst_bits: int) -> Qdisc:
    burst = burst_bits // 8
    if burst_bits in (0, UNLIMITED_BURST):
        burst = max(SMALLEST_BURST, rate // 8 // 100)
    limit = int(rate / 8 * LATENCY) + burst
    # a 32-bit field in struct tc_tbf_qopt
    return Qdisc(link=link, kind="tbf", handle="1:", rate=rate, burst=burst, limit=min(limit, 0xFFFFFFFF))


def shaping(endpoint: Endpoint) -> tuple[AnyObject, ...]:
    """Kernel objects that hold a pod to its rates; none when it has no limit."""
    wanted = endpoint.bandwidth
    objects: list[AnyObject] = []
    if wanted.ingress_rate:
        objects.append(_bucket(endpoint.host_link, wanted.ingress_rate, wanted.ingress_burst))
    if wanted.egress_rate:
        ifb = names.ifb_link(endpoint.container, endpoint.ifname)
        objects += [
            Link(
                name=ifb,
                kind="ifb",
                alias=names.pod_alias(endpoint.container, endpoint.ifname),
                mtu=endpoint.mtu,
            ),
            _bucket(ifb, wanted.egress_rate, wanted.egress_burst),
            Qdisc(link=endpoint.host_link, kind="ingress", parent="ffff:fff1", handle="ffff:"),
            Filter(link=endpoint.host_link, redirect=ifb),
        ]
    return tuple(objects)

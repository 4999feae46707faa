"""Shaping a pod: a token bucket on its host link, and one on an IFB for what the pod sends.

The host link's egress is the pod's ingress. What the pod sends arrives at the host link's ingress,
where nothing can queue, so it is redirected to an IFB that can.
"""

from __future__ import annotations

from podway.model import names
from podway.model.objects import AnyObject, Filter, Link, Qdisc
from podway.model.resources import Bandwidth, Endpoint

UNLIMITED_BURST = 0xFFFFFFFF  # what containerd sends when nobody asked for a burst
LARGEST = 0xFFFFFFFF  # bytes: fields of 32 bits, struct tc_tbf_qopt and TCA_TBF_BURST
LATENCY = 0.025  # seconds that a packet may wait, as the reference plugin has it
SMALLEST_BURST = 65536  # bytes: one full GSO packet, or throughput collapses


def _bucket(link: str, rate: int, burst_bits: int) -> Qdisc:
    burst = burst_bits // 8
    if burst_bits in (0, UNLIMITED_BURST):
        burst = max(SMALLEST_BURST, rate // 8 // 100)
    burst = min(burst, LARGEST)
    limit = min(int(rate / 8 * LATENCY) + burst, LARGEST)
    return Qdisc(link=link, kind="tbf", handle="1:", rate=rate, burst=burst, limit=limit)


def shaping(wanted: Bandwidth, link: str, device: str, alias: str, mtu: int) -> tuple[AnyObject, ...]:
    """Kernel objects that hold a pod to its rates; none when it has no limit.

    ``link``: the host's side of its veth. ``device``, with ``alias`` and ``mtu``: the IFB."""
    objects: list[AnyObject] = []
    if wanted.ingress_rate:
        objects.append(_bucket(link, wanted.ingress_rate, wanted.ingress_burst))
    if wanted.egress_rate:
        objects += [
            Link(name=device, kind="ifb", alias=alias, mac=names.mac("ifb", device), mtu=mtu),
            _bucket(device, wanted.egress_rate, wanted.egress_burst),
            Qdisc(link=link, kind="ingress", parent="ffff:fff1", handle="ffff:"),
            Filter(link=link, redirect=device),
        ]
    return tuple(objects)


def of_endpoint(endpoint: Endpoint) -> tuple[AnyObject, ...]:
    """The same for a pod of Podway's own."""
    device = names.ifb_link(endpoint.container, endpoint.ifname)
    alias = names.pod_alias(endpoint.container, endpoint.ifname)
    return shaping(endpoint.bandwidth, endpoint.host_link, device, alias, endpoint.mtu)

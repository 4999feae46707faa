"""What befalls packets on a lab's links: delay by the kernel's netem, loss by nftables in the segments.

A machine's ``delay`` and ``loss`` hold on its link, each way; a segment's for every packet that passes
it, once. Pure but for ``require``.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

from podway.lab.topology import Machine, Topology
from podway.model.errors import Unavailable

QUEUE = 100_000  # packets that wait in a delayed link; netem's default drops beyond 1000


def require(topology: Topology) -> None:
    """Raise Unavailable, before anything is made, where the kernel can't delay what is to be delayed."""
    place = next(_delayed(topology), "")
    if not place:
        return
    trial = ["unshare", "--net", "tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"]
    done = subprocess.run(trial, capture_output=True, text=True)
    if done.returncode != 0:
        fix = (
            "modprobe sch_netem, or leave delay out (MTU and loss need no netem), or run the lab in a guest"
            " with a distribution's kernel (docs/lab.md, Delay)"
        )
        raise Unavailable("this kernel has no netem, so no link can be slow", place, fix)


def _delayed(topology: Topology) -> Iterator[str]:
    for segment in topology.segments:
        if segment.weather.delay:
            yield f"delay of segment {segment.name}"
    for machine in topology.machines:
        if any(port.weather.delay for port in machine.ports):
            yield f"delay of {machine.role} {machine.name}"


def delays(topology: Topology, machine: Machine) -> tuple[tuple[float, float], ...]:
    """For each of a machine's ports: milliseconds towards the machine (added by the segment's end of the
    link), and from it (added by its own)."""
    segments = {segment.name: segment.weather.delay for segment in topology.segments}
    return tuple((segments[port.segment] + port.weather.delay, port.weather.delay) for port in machine.ports)


def netem(link: str, delay: float) -> str:
    """The line for ``tc -batch``."""
    return f"qdisc replace dev {link} root netem delay {delay * 1000:.0f}us limit {QUEUE}"

"""Segments, machines and pods as namespaces, bridges and veths: made by ``ip -batch``, an outsider.

Runs in the lab's own network and mount namespace. The segments' bridges stand in that namespace;
every machine and pod is one more, known by its name in /run/netns.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from podway.kernel import namespaces
from podway.lab.place import NAMESPACES
from podway.lab.topology import Machine, Topology
from podway.model.errors import Unavailable

IFNAMSIZ = 15
ROUTER_SYSCTLS = ("ipv4/ip_forward", "ipv6/conf/all/forwarding")


def short(name: str) -> str:
    """``name`` if it can be a link's, else its beginning and a hash."""
    return name if len(name) <= IFNAMSIZ else f"{name[:8]}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def bridge(segment: str) -> str:
    """The link that a segment is."""
    return short(f"br-{segment}")


def plug(machine: str, number: int) -> str:
    """The segment's end of a machine's link."""
    return short(f"{machine}-e{number}")


def wire(topology: Topology) -> None:
    """Make everything except what agents and the CNI plugin make. Raises Unavailable with ip's own words."""
    for which in ("all", "default"):  # a segment is a cable: it has no addresses
        _write_sysctl(f"ipv6/conf/{which}/disable_ipv6", "1")
    _ip(_common(topology))
    for machine in topology.machines:
        with inside(machine.name):
            for path in ROUTER_SYSCTLS if machine.role == "router" else ():
                _write_sysctl(path, "1")
            for port in machine.ports:  # duplicate detection takes a second, and there is one numbering
                _write_sysctl(f"ipv6/conf/{port.link}/dad_transmits", "0")
        _ip(_machine(machine), machine.name)


def _common(topology: Topology) -> Iterator[str]:
    for machine in topology.machines:
        yield f"netns add {machine.name}"
        for pod in machine.pods:
            yield f"netns add {pod}"
    mtus = {}
    for segment in topology.segments:
        mtus[segment.name] = segment.mtu
        yield f"link add {bridge(segment.name)} mtu {segment.mtu} type bridge mcast_snooping 0"
        yield f"link set {bridge(segment.name)} up"
    for machine in topology.machines:
        for number, port in enumerate(machine.ports):
            end = plug(machine.name, number)
            yield (
                f"link add {end} mtu {mtus[port.segment]} type veth"
                f" peer name {port.link} mtu {port.mtu} netns {machine.name}"
            )
            yield f"link set {end} master {bridge(port.segment)} up"


def _machine(machine: Machine) -> Iterator[str]:
    yield "link set lo up"
    for port in machine.ports:
        for address in port.addresses:
            yield f"addr add {address} dev {port.link}{' nodad' if ':' in address else ''}"
        yield f"link set {port.link} up"
    for hop in machine.routes:
        yield f"route add {hop.dst} via {hop.via}"


@contextlib.contextmanager
def inside(name: str) -> Iterator[None]:
    """Run the body in a machine's or pod's network namespace."""
    fd = namespaces.open_namespace(str(NAMESPACES / name))
    try:
        with namespaces.entered(fd):
            yield
    finally:
        os.close(fd)


def _write_sysctl(path: str, value: str) -> None:
    Path("/proc/sys/net", path).write_text(value)


def _ip(lines: Iterable[str], namespace: str = "") -> None:
    command = ["ip", *(["-n", namespace] if namespace else []), "-batch", "-"]
    done = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True)
    if done.returncode != 0:
        raise Unavailable(f"the wiring failed: {done.stderr.strip()}", namespace)

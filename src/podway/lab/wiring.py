"""Segments, machines and pods as namespaces, bridges and veths: made by ``ip -batch``, an outsider.

Runs in the lab's own network and mount namespace. The segments' bridges stand in that namespace;
every machine and pod is one more, known by its name in /run/netns.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from podway.kernel import namespaces
from podway.lab import faults, weather
from podway.lab.cables import bridge, plug
from podway.lab.place import NAMESPACES
from podway.lab.topology import Machine, Topology
from podway.model.errors import Unavailable

ROUTER_SYSCTLS = ("ipv4/ip_forward", "ipv6/conf/all/forwarding")


def wire(topology: Topology) -> None:
    """Make everything except what agents and the CNI plugin make. Raises Unavailable with ip's own words."""
    for which in ("all", "default"):  # a segment is a cable: it has no addresses
        _write_sysctl(f"ipv6/conf/{which}/disable_ipv6", "1")
    _batch(["ip"], _segments(topology))
    plug_in(topology, topology.machines)
    if faults.any_loss(topology):
        set_faults(topology, ())


def plug_in(topology: Topology, machines: Sequence[Machine]) -> None:
    """Make machines, their pods' namespaces, and their links into segments that are there."""
    _batch(["ip"], (line for machine in machines for line in _links(topology, machine)))
    for machine in machines:
        with inside(machine.name):
            for path in ROUTER_SYSCTLS if machine.role == "router" else ():
                _write_sysctl(path, "1")
            for port in machine.ports:  # duplicate detection takes a second, and there is one numbering
                _write_sysctl(f"ipv6/conf/{port.link}/dad_transmits", "0")
        _batch(["ip", "-n", machine.name], _machine(machine))
    _delay(topology, machines)


def unplug(machine: Machine) -> None:
    """Take a machine's links, its namespace and its pods' away; what is gone already is no matter."""
    links = (f"link del {plug(machine.name, number)}" for number in range(len(machine.ports)))
    _batch(["ip", "-force"], links, check=False)
    _batch(["ip", "-force"], (f"netns del {name}" for name in (machine.name, *machine.pods)), check=False)


def set_faults(topology: Topology, wanted: Iterable[faults.Fault]) -> None:
    """Put exactly these faults in force, and the topology's losses. Raises Unavailable."""
    if shutil.which("nft") is None:
        raise Unavailable("the nft command is not installed", "faults and losses", "apt install nftables")
    _batch(["nft"], [faults.ruleset(topology, wanted)], flag="-f")


def _segments(topology: Topology) -> Iterator[str]:
    for segment in topology.segments:
        yield f"link add {bridge(segment.name)} mtu {segment.mtu} type bridge mcast_snooping 0"
        yield f"link set {bridge(segment.name)} up"


def _links(topology: Topology, machine: Machine) -> Iterator[str]:
    mtus = {segment.name: segment.mtu for segment in topology.segments}
    yield f"netns add {machine.name}"
    for pod in machine.pods:
        yield f"netns add {pod}"
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


def _delay(topology: Topology, machines: Sequence[Machine]) -> None:
    ends: list[str] = []
    for machine in machines:
        own = []
        for number, (inward, outward) in enumerate(weather.delays(topology, machine)):
            ends += [weather.netem(plug(machine.name, number), inward)] if inward else []
            own += [weather.netem(machine.ports[number].link, outward)] if outward else []
        if own:
            _batch(["tc", "-n", machine.name], own)
    if ends:
        _batch(["tc"], ends)


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


def _batch(command: list[str], lines: Iterable[str], flag: str = "-batch", check: bool = True) -> None:
    text = "\n".join(lines)
    done = subprocess.run([*command, flag, "-"], input=text, capture_output=True, text=True)
    if check and done.returncode != 0:
        raise Unavailable(f"the wiring failed: {done.stderr.strip()}", " ".join(command))

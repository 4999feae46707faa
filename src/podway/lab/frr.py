"""Routers and hosts of a lab that speak BGP: Debian's FRR on them, with a configuration made here.

A machine speaks with the nodes of its segments, those too that join later, and with machines that speak too
on segments without nodes (a spine). Its files and sockets are in RUN/MACHINE, inside the lab alone:
``vtysh -N MACHINE`` finds them.
"""

from __future__ import annotations

import ipaddress
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from podway.lab.topology import Bgp, Machine, Topology
from podway.model.errors import Unavailable

BINARIES = Path("/usr/lib/frr")
DAEMONS = ("zebra", "bfdd", "bgpd")  # in the order of their start
RUN = Path("/run/frr")
USER = "frr"
BFD = "3 100 100"  # multiplier, milliseconds between packets each way: as Podway's BIRD does
READY = 30.0  # seconds
PAUSE = 0.02
LOG_LINES = 3


def require(topology: Topology) -> None:
    """Raise Unavailable, before anything is made, when a machine wants an FRR and there is none."""
    speaking = [machine.name for machine in topology.machines if machine.bgp]
    missing = [name for name in DAEMONS if not (BINARIES / name).exists()]
    if speaking and missing:
        what = f"FRR is not installed: {BINARIES / missing[0]} is missing"
        raise Unavailable(what, f"bgp of {', '.join(speaking)}", "apt install frr")


def configuration(topology: Topology, machine: Machine) -> str:
    """What bgpd of a machine is told, both families. Pure."""
    bgp = machine.bgp
    assert bgp is not None
    others = list(_others(topology, machine))
    served = _served(topology, machine)
    lines = [
        f"router bgp {bgp.as_number}",
        f" bgp router-id {_router_id(machine)}",
        " no bgp ebgp-requires-policy",
        " no bgp default ipv4-unicast",
        " bgp bestpath as-path multipath-relax",
        " bgp graceful-restart",
        # else End-of-RIB comes a second before the routes, and a restarted BIRD flushes its own meanwhile
        " coalesce-time 0",
        " timers bgp 3 9",
    ]
    for family in (4, 6):
        lines += [f" neighbor nodes{family} peer-group", f" neighbor nodes{family} remote-as {bgp.nodes_as}"]
        lines += [f" neighbor nodes{family} bfd {BFD}"] if bgp.bfd else []
    for address in _nodes(topology, machine):
        lines.append(f" neighbor {address} peer-group nodes{ipaddress.ip_address(address).version}")
    for cidr in served:
        lines.append(f" bgp listen range {cidr} peer-group nodes{ipaddress.ip_network(cidr).version}")
    for address, remote_as in others:
        lines.append(f" neighbor {address} remote-as {remote_as}")
        lines += [f" neighbor {address} bfd {BFD}"] if bgp.bfd else []
    for family in (4, 6):
        neighbors = [a for a, _ in others if ipaddress.ip_address(a).version == family]
        lines += _family(bgp, family, neighbors)
    return "\n".join([*lines, ""])


def _family(bgp: Bgp, family: int, neighbors: list[str]) -> Iterator[str]:
    group = f"nodes{family}"
    yield f" address-family ipv{family} unicast"
    yield f"  neighbor {group} activate"
    if bgp.reflector:
        yield f"  neighbor {group} route-reflector-client"
    elif bgp.as_number != bgp.nodes_as:
        yield f"  neighbor {group} as-override"  # all nodes are of one AS, which a node takes for a loop
    for address in neighbors:
        yield f"  neighbor {address} activate"
    yield "  maximum-paths 8"
    yield " exit-address-family"


def _router_id(machine: Machine) -> str:
    """Its first IPv4 address, or 32 bits of its first IPv6 one."""
    addresses = [ipaddress.ip_interface(one).ip for port in machine.ports for one in port.addresses]
    four = next((one for one in addresses if one.version == 4), None)
    return str(four or ipaddress.IPv4Address(int(addresses[0]) & 0xFFFFFFFF))


def _with_nodes(topology: Topology) -> set[str]:
    return {port.segment for node in topology.of("node") for port in node.ports}


def _served(topology: Topology, machine: Machine) -> list[str]:
    """Prefixes from which nodes call."""
    mine = {port.segment for port in machine.ports} & _with_nodes(topology)
    return [cidr for segment in topology.segments if segment.name in mine for cidr in segment.cidrs]


def _nodes(topology: Topology, machine: Machine) -> Iterator[str]:
    """Addresses of nodes beside it, each by itself: FRR forgets who has called at once, and its routes too,
    which a restarting node would want kept. Those that join later just call."""
    mine = {port.segment for port in machine.ports}
    for node in topology.of("node"):
        for port in node.ports:
            for address in port.addresses if port.segment in mine else ():
                yield str(ipaddress.ip_interface(address).ip)


def _others(topology: Topology, machine: Machine) -> Iterator[tuple[str, int]]:
    """(address, AS) of every machine that speaks too, on segments without nodes."""
    between = {port.segment for port in machine.ports} - _with_nodes(topology)
    for other in topology.machines:
        if other.bgp is None or other.name == machine.name:
            continue
        for port in other.ports:
            for address in port.addresses if port.segment in between else ():
                yield str(ipaddress.ip_interface(address).ip), other.bgp.as_number


def start(topology: Topology, machine: Machine) -> None:
    """Start a machine's daemons and wait until each answers; they end with the lab.

    Called on a thread in the machine's network namespace. Raises Unavailable with a daemon's last words."""
    directory = RUN / machine.name
    directory.mkdir(parents=True)
    for name in DAEMONS:
        told = configuration(topology, machine) if name == "bgpd" else ""
        (directory / f"{name}.conf").write_text(f"log file {directory}/{name}.log\n{told}")
    for path in (RUN, directory, *directory.iterdir()):
        shutil.chown(path, USER, USER)
    for name in DAEMONS:
        _start(machine, name, directory)


def _start(machine: Machine, name: str, directory: Path) -> None:
    # a host is no router: what it learned is for others
    more = ["--no_kernel"] if name == "bgpd" and machine.role == "host" else []
    running = subprocess.Popen(
        [str(BINARIES / name), "-N", machine.name, "-f", f"{directory}/{name}.conf", *more],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + READY
    while not (directory / f"{name}.vty").exists():
        if running.poll() is not None or time.monotonic() > deadline:
            log = directory / f"{name}.log"
            lines = log.read_text(errors="replace").splitlines()[-LOG_LINES:] if log.exists() else []
            raise Unavailable(f"FRR's {name} does not start: {' | '.join(lines)}", machine.name)
        time.sleep(PAUSE)

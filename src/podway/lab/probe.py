"""The probe process of a lab: looks at every namespace, tries every pair, ends. Runs inside the lab.

Run as ``python -m podway.lab.probe NAME DIRECTORY BETWEEN`` in the lab's mount namespace; writes ``Report``
lines to stdout: progress, and last the whole.
"""

from __future__ import annotations

import ipaddress
import os
import resource
import sys
from pathlib import Path

import msgspec

from podway.lab.attach import INTERFACE
from podway.lab.matrix import Outcome, Spot, probes
from podway.lab.place import NAMESPACES, Place
from podway.lab.prober import Prober
from podway.lab.station import Station
from podway.lab.topology import Machine, Topology

STEP = 50  # probes between two words of progress


class Report(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line; ``spots`` and ``outcomes`` only on the last."""

    done: int = 0
    total: int = 0
    spots: tuple[Spot, ...] = ()
    outcomes: tuple[Outcome, ...] = ()


def _families(addresses: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(sorted({ipaddress.ip_interface(one).version for one in addresses}))


def survey(topology: Topology, between: str = "all") -> tuple[Spot, ...]:
    """Everybody who takes part, with the addresses found in their namespaces.

    ``between``: "pods" or "nodes" leaves out all others, hosts too."""
    if between == "nodes":
        return tuple(_machine(machine) for machine in topology.of("node"))
    if between == "pods":
        nodes = topology.of("node")
        return tuple(_pod(pod, node.name, topology) for node in nodes for pod in node.pods)
    found = []
    for machine in (*topology.of("node"), *topology.of("host")):
        found.append(_machine(machine))
        for pod in machine.pods:
            found.append(_pod(pod, machine.name, topology))
    return tuple(found)


def _machine(machine: Machine) -> Spot:
    addresses, inner = _look(machine.name, own=True)
    port = machine.ports[0]
    return Spot(
        name=machine.name,
        place="host" if machine.role == "host" else "node",
        node=machine.name,
        families=_families(port.addresses),
        targets=tuple(address.partition("/")[0] for address in port.addresses),
        addresses=tuple(one for each in addresses.values() for one in each),
        mtu=port.mtu,
        inner=min(inner.values(), default=port.mtu),
    )


def _pod(pod: str, node: str, topology: Topology) -> Spot:
    """A pod should have an address of every family that its network has a pool of."""
    addresses, mtus = _look(pod)
    own = addresses.get(INTERFACE, ())
    pools = tuple(
        str(pool["cidr"])
        for document in topology.documents
        if document["kind"] == "Network" and document["metadata"]["name"] == topology.network_of(pod)
        for pool in document["spec"]["pools"]
    )
    return Spot(
        name=pod,
        place="pod",
        node=node,
        families=_families(pools),
        targets=own,
        addresses=own,
        mtu=mtus.get(INTERFACE, 0),
    )


def _look(name: str, own: bool = False) -> tuple[dict[str, tuple[str, ...]], dict[str, int]]:
    """Link → addresses that reach beyond it, and link → MTU (``own``: of Podway's links), of a namespace."""
    from podway.kernel import namespaces
    from podway.kernel.rtnetlink import Rtnetlink
    from podway.model.objects import ALIAS_PREFIX, Address, Link

    fd = namespaces.open_namespace(str(NAMESPACES / name))
    rtnetlink = Rtnetlink(fd)
    try:
        links = rtnetlink.dump("link").values()
        addresses: dict[str, tuple[str, ...]] = {}
        for one in rtnetlink.dump("address").values():
            assert isinstance(one, Address)
            bare = ipaddress.ip_interface(one.address).ip
            if not bare.is_link_local and not bare.is_loopback:
                addresses[one.link] = (*addresses.get(one.link, ()), str(bare))
        known = [link for link in links if isinstance(link, Link)]
        marked = [link for link in known if not own or (link.alias or "").startswith(ALIAS_PREFIX)]
        return addresses, {link.name: link.mtu or 0 for link in marked}
    finally:
        rtnetlink.close()
        os.close(fd)


def tell(report: Report) -> None:
    """One line, whole."""
    sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
    sys.stdout.buffer.flush()


def main() -> None:
    """See the module."""
    name, directory, between = sys.argv[1:]
    topology = Place(name, Path(directory)).saved().running
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    spots = survey(topology, between)
    wanted = list(probes(topology, spots))
    stations = [Station(spot.name) for spot in spots]
    prober = Prober(stations)
    last = 0

    def progress(done: int) -> None:
        nonlocal last
        if done - last >= STEP:
            last = done
            tell(Report(done=done, total=len(wanted)))

    try:
        outcomes = prober.run(wanted, progress)
    finally:
        prober.close()
        for station in stations:
            station.close()
    tell(Report(done=len(wanted), total=len(wanted), spots=spots, outcomes=tuple(outcomes)))


if __name__ == "__main__":
    main()

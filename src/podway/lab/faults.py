"""Faults of a lab's network, as one nftables table where the segments' bridges are. Pure.

Every packet between machines passes the bridge of a segment, so a fault is a rule there: by the links
of both machines if they share a segment, by the address of the receiver if a router is between. What
passes a router with a pod's own address (no tunnel) is therefore not held up. The table is always
written whole, in one transaction: losses of the topology, then the faults.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import msgspec

from podway.lab.cables import plug
from podway.lab.topology import Machine, Topology
from podway.model.errors import InvalidInput
from podway.model.problems import suggest

TABLE = "podway-lab"
ONLY = re.compile(r"(tcp|udp|sctp)/(\d{1,5})|proto/(\d{1,3})")
ONLY_WORDS = "udp/8472, tcp/179 or proto/4"
SHARES = 10_000  # a loss is so many in this


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """Between the machines ``one`` and ``other`` (() = all others), both ways unless ``one_way``.

    ``only``: "" everything (ARP too), "udp/8472", "proto/4". ``larger``: only packets of more bytes than
    that, 0 = of any size; several that the kernel carries as one count as one. ``loss``: percent.
    """

    one: tuple[str, ...]
    other: tuple[str, ...] = ()
    only: str = ""
    larger: int = 0
    loss: float = 100.0
    one_way: bool = False

    @property
    def words(self) -> str:
        """As people read it, and as a rule's comment."""
        arrow = "→" if self.one_way else "↔"
        sides = f"{','.join(self.one)} {arrow} {','.join(self.other) or 'all others'}"
        what = [self.only, f"over {self.larger} bytes" if self.larger else ""]
        share = f"{self.loss:g}% lost" if self.loss < 100 else "cut"
        return ", ".join((sides, " ".join(filter(None, (*what, share)))))


def check(topology: Topology, fault: Fault) -> None:
    """Raise InvalidInput for a fault that can't be."""
    machines = [machine.name for machine in topology.machines]
    known = [*machines, *(segment.name for segment in topology.segments)]
    for name in (*fault.one, *fault.other):
        if name not in known:
            what = f"{name!r} is no node, router, host or segment of the lab"
            raise InvalidInput(what, fix=suggest(name, known))
    if not fault.one:
        raise InvalidInput("nobody is named", fix="a node or segment, or several: node1,node2")
    if fault.only and not ONLY.fullmatch(fault.only):
        raise InvalidInput(f"{fault.only!r} is no kind of packet", "--only", ONLY_WORDS)
    if not 0 < fault.loss <= 100:
        raise InvalidInput(f"{fault.loss:g} % can't be lost", "--loss", "more than 0, at most 100")
    one, other = sides(topology, fault)
    if not one or not other or set(one) & set(other):
        what = "a fault is between two sides that share no machine"
        raise InvalidInput(what, fault.words, "name others")


def sides(topology: Topology, fault: Fault) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The machines on both sides; a segment stands for its nodes and hosts."""
    one = _machines(topology, fault.one)
    if fault.other:
        return one, _machines(topology, fault.other)
    return one, tuple(machine.name for machine in topology.machines if machine.name not in one)


def _machines(topology: Topology, names: Iterable[str]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for name in names:
        for machine in topology.machines:
            on = name in (port.segment for port in machine.ports) and machine.role != "router"
            if machine.name == name or on:
                found[machine.name] = None
    return tuple(found)


def touches(fault: Fault, names: Iterable[str]) -> bool:
    """Whether one of ``names`` is named on either side."""
    return bool(set(names) & {*fault.one, *fault.other})


def ruleset(topology: Topology, faults: Iterable[Fault]) -> str:
    """For ``nft -f``: the whole table, in the place of whatever it was."""
    rules = [*_losses(topology)]
    for fault in faults:
        rules += _rules(topology, fault)
    body = "\n".join(f"    {rule}" for rule in rules)
    # before the module br_netfilter, if it is there: IP packets come by no chain that is at its 0 or behind
    chain = f"  chain faults {{\n    type filter hook forward priority filter; policy accept;\n{body}\n  }}"
    return f"table bridge {TABLE}\ndelete table bridge {TABLE}\ntable bridge {TABLE} {{\n{chain}\n}}\n"


def any_loss(topology: Topology) -> bool:
    """Whether a lab needs the table from its beginning."""
    return any(_losses(topology))


def _losses(topology: Topology) -> Iterator[str]:
    for segment in topology.segments:
        if segment.weather.loss:
            ends = [end for machine in topology.machines for end in _plugs(machine, segment.name)]
            yield f"oifname {_set(ends)} {_drop(segment.weather.loss, f'loss of segment {segment.name}')}"
    for machine in topology.machines:
        for number, port in enumerate(machine.ports):
            if port.weather.loss:
                drop = _drop(port.weather.loss, f"loss of {machine.name}")
                yield f"iifname {_set([plug(machine.name, number)])} {drop}"
                yield f"oifname {_set([plug(machine.name, number)])} {drop}"


def _rules(topology: Topology, fault: Fault) -> Iterator[str]:
    one, other = sides(topology, fault)
    kind = " ".join(
        filter(None, (_kind(fault.only), f"meta length > {fault.larger}" if fault.larger else ""))
    )
    for senders, receivers in ((one, other),) if fault.one_way else ((one, other), (other, one)):
        sending = [topology.machine(name) for name in senders]
        receiving = [topology.machine(name) for name in receivers]
        start = f"iifname {_set(end for machine in sending for end in _plugs(machine))}"
        ends = _set(end for machine in receiving for end in _plugs(machine))
        drop = _drop(fault.loss, fault.words)
        yield f"{start} oifname {ends} {kind} {drop}"
        for family, colon in (("ip", False), ("ip6", True)):
            addresses = [a for machine in receiving for a in _addresses(machine) if (":" in a) == colon]
            if addresses:
                yield f"{start} {family} daddr {{ {', '.join(addresses)} }} {kind} {drop}"


def _kind(only: str) -> str:
    found = ONLY.fullmatch(only)
    if not found:
        return ""
    transport, port, protocol = found.groups()
    return f"meta l4proto {protocol}" if protocol else f"{transport} dport {port}"


def _drop(loss: float, words: str) -> str:
    chance = f"numgen random mod {SHARES} < {round(loss * SHARES / 100)} " if loss < 100 else ""
    return f'{chance}counter drop comment "{words[:100]}"'


def _plugs(machine: Machine, segment: str = "") -> Iterator[str]:
    for number, port in enumerate(machine.ports):
        if segment in ("", port.segment):
            yield plug(machine.name, number)


def _addresses(machine: Machine) -> Iterator[str]:
    for port in machine.ports:
        yield from (address.partition("/")[0] for address in port.addresses)


def _set(names: Iterable[str]) -> str:
    quoted = ", ".join(f'"{name}"' for name in names)
    return f"{{ {quoted} }}"

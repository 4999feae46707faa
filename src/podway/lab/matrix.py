"""Who is to reach whom, and what it means that they did. Pure.

A pair is a sender and a receiver; each is probed over every family that both have, by ICMP, TCP,
UDP and a UDP packet of full MTU that may not be fragmented. Both directions are pairs of their own.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import msgspec

from podway.lab.topology import Topology, segments_between

Protocol = Literal["icmp", "tcp", "udp", "mtu"]
PROTOCOLS: tuple[Protocol, ...] = ("icmp", "tcp", "udp", "mtu")
FAMILIES = (4, 6)
HEADERS = {4: 20 + 8, 6: 40 + 8}  # bytes of IP and UDP
Place = Literal["node", "pod", "host"]


class Spot(msgspec.Struct, frozen=True, kw_only=True):
    """A namespace that takes part. ``addresses``: all its own, without prefix length.

    ``families``: those that it should have; ``targets``: the address per family at which others
    reach it; ``mtu``: of the link that carries it; ``inner``: the least of a node's links that carry
    pods' packets.
    """

    name: str
    place: Place
    node: str  # the node it is on, or its own name
    families: tuple[int, ...]
    targets: tuple[str, ...]
    addresses: tuple[str, ...]
    mtu: int
    inner: int = 0

    def target(self, family: int) -> str:
        """ "" when it has no address of a family."""
        return next((one for one in self.targets if (6 if ":" in one else 4) == family), "")


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to try. ``size``: UDP payload bytes, 0 = a few."""

    sender: str
    receiver: str
    family: int
    protocol: Protocol
    target: str
    size: int = 0


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """``seen``: the sender's address as the receiver saw it, "" = nothing came; ``error`` "" = answered."""

    probe: Probe
    seen: str = ""
    error: str = ""
    milliseconds: float = 0.0


class Verdict(msgspec.Struct, frozen=True, kw_only=True, rename={"sender": "from", "receiver": "to"}):
    """One probe of one pair, judged. ``expected``: the addresses that the receiver may see; ``size``: bytes
    of the IP packet of an "mtu" probe, else 0."""

    sender: str
    receiver: str
    family: str
    protocol: Protocol
    path: tuple[str, ...]
    target: str
    seen: str
    expected: tuple[str, ...]
    reached: bool
    nat: bool
    error: str
    milliseconds: float
    size: int = 0


def probes(topology: Topology, spots: Sequence[Spot]) -> Iterator[Probe]:
    """Every pair of pods and nodes, and from each of them to every host beyond a router."""
    narrowest = Narrowest(topology)
    for sender in spots:
        if sender.place == "host":
            continue
        for receiver in spots:
            if receiver.name != sender.name:
                yield from _pair(sender, receiver, narrowest.on_the_way(sender, receiver))


class Narrowest:
    """The largest packet that a pair may count on."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._segments = {segment.name: segment.mtu for segment in topology.segments}
        self._known: dict[tuple[str, str], int] = {}

    def on_the_way(self, sender: Spot, receiver: Spot) -> int:
        """In bytes. A pod counts on its own MTU, whatever lies between; and so does who talks to it."""
        places = {sender.place, receiver.place}
        if places == {"pod"}:
            return min(sender.mtu, receiver.mtu)
        if "pod" in places and "node" in places:
            return min(one.mtu if one.place == "pod" else one.inner for one in (sender, receiver))
        return min(sender.mtu, receiver.mtu, self._between(sender.node, receiver.node))

    def _between(self, first: str, last: str) -> int:
        if (first, last) not in self._known:
            names = segments_between(self._topology, first, last)
            mtus = [self._segments[name] for name in names if name in self._segments]
            self._known[first, last] = min(mtus, default=1 << 16)
        return self._known[first, last]


def _pair(sender: Spot, receiver: Spot, mtu: int) -> Iterator[Probe]:
    for family in FAMILIES:
        if family not in sender.families or family not in receiver.families:
            continue
        full = mtu - HEADERS[family]
        for protocol in PROTOCOLS:
            size = full if protocol == "mtu" else 0
            yield Probe(
                sender=sender.name,
                receiver=receiver.name,
                family=family,
                protocol=protocol,
                target=receiver.target(family),
                size=size,
            )


def judge(topology: Topology, spots: Sequence[Spot], outcomes: Iterable[Outcome]) -> list[Verdict]:
    """What the outcomes mean, in their order."""
    by_name = {spot.name: spot for spot in spots}
    return [_verdict(topology, by_name, outcome) for outcome in outcomes]


def _verdict(topology: Topology, spots: dict[str, Spot], outcome: Outcome) -> Verdict:
    probe = outcome.probe
    sender, receiver = spots[probe.sender], spots[probe.receiver]
    # Inside, the sender's own address arrives; outside only that of the node which it left through.
    source = spots[sender.node] if receiver.place == "host" else sender
    expected = tuple(a for a in source.addresses if ipaddress.ip_address(a).version == probe.family)
    nat = bool(outcome.seen) and outcome.seen not in expected
    return Verdict(
        sender=sender.name,
        receiver=receiver.name,
        family=f"IPv{probe.family}",
        protocol=probe.protocol,
        path=path(topology, sender, receiver),
        target=probe.target,
        seen=outcome.seen,
        expected=expected,
        reached=bool(outcome.seen) and not outcome.error,
        nat=nat,
        error=outcome.error or (_words(sender, receiver, outcome.seen) if nat else ""),
        milliseconds=outcome.milliseconds,
        size=probe.size + HEADERS[probe.family] if probe.size else 0,
    )


def _words(sender: Spot, receiver: Spot, seen: str) -> str:
    if receiver.place == "host":
        return f"left its node as {seen}, which is no address of {sender.node}"
    return f"translated on the way: seen as {seen}"


def path(topology: Topology, sender: Spot, receiver: Spot) -> tuple[str, ...]:
    """The namespaces and segments that a packet passes, both ends included."""
    between = segments_between(topology, sender.node, receiver.node) if sender.node != receiver.node else ()
    whole = (sender.name, sender.node, *between, receiver.node, receiver.name)
    return tuple(name for number, name in enumerate(whole) if number == 0 or name != whole[number - 1])


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """Of all pairs. ``wrong``: pairs whose sender was seen under an address that is not its own."""

    pairs: int
    reached: int
    wrong: int

    @property
    def ok(self) -> bool:
        """Every pair reached, no address changed, and there was something to reach."""
        return self.reached == self.pairs > 0 and not self.wrong

    @property
    def line(self) -> str:
        """The last line of a test."""
        if not self.pairs:
            return "0 pairs: nothing was tested"
        tail = "no NAT inside" if not self.wrong else f"{self.wrong} seen under a wrong address"
        return f"{self.reached} of {self.pairs} pairs reached, {tail}"


def summarize(verdicts: Iterable[Verdict]) -> Summary:
    """A pair is reached when all its probes were answered."""
    pairs: dict[tuple[str, str], bool] = {}
    wrong: set[tuple[str, str]] = set()
    for verdict in verdicts:
        pair = (verdict.sender, verdict.receiver)
        pairs[pair] = pairs.get(pair, True) and verdict.reached
        if verdict.nat:
            wrong.add(pair)
    return Summary(pairs=len(pairs), reached=sum(pairs.values()), wrong=len(wrong))

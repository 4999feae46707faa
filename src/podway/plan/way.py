"""How one network's packets travel between nodes: a *way*, with a text that nodes tell each other.

A change of a network's way is a change of generation. Every node publishes which ways it accepts and
which it sends, so that no node is sent what it can't receive yet, and no way of receiving goes while
somebody still sends it. There is no coordinator.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from podway.model.resources import NetworkSpec, Paths, Transport

FAMILIES = {"ipv4": 4, "ipv6": 6}


class Way(msgspec.Struct, frozen=True):
    """A transport with what both ends must agree on. ``underlay`` is 4 or 6, 0 where it is no matter."""

    transport: Transport
    vni: int = 0
    port: int = 0
    underlay: int = 0

    @property
    def text(self) -> str:
        """ "none", "host-gw", or "vxlan:VNI:PORT:4": what ``parse`` reads."""
        if self.transport == "vxlan":
            return f"vxlan:{self.vni}:{self.port}:{self.underlay}"
        return self.transport


def parse(text: str) -> Way | None:
    """The way of a text; None for one of a version that knows more."""
    if text == "none":
        return Way("none")
    if text == "host-gw":
        return Way("host-gw")
    kind, *numbers = text.split(":")
    if kind == "vxlan" and len(numbers) == 3 and all(number.isdigit() for number in numbers):
        vni, port, underlay = map(int, numbers)
        return Way("vxlan", vni, port, underlay)
    return None


def wanted(spec: NetworkSpec) -> Way:
    """The way that a network declares."""
    if spec.transport == "vxlan":
        return Way("vxlan", spec.vxlan.vni, spec.vxlan.port, FAMILIES[spec.vxlan.underlay])
    return Way(spec.transport)


def received(wanted: Way, said: Iterable[Paths]) -> tuple[Way, ...]:
    """What a node holds: what is wanted first, what others still send, and what they can't do without."""
    texts: set[str] = set()
    for paths in said:
        texts.update(paths.sends)
        if paths.accepts and wanted.text not in paths.accepts:
            texts.update(paths.accepts)
    others = {way for text in texts if (way := parse(text)) is not None}
    return (wanted, *sorted(others - {wanted}, key=lambda way: way.text))


def sent(wanted: Way, peer: Paths | None, held: Iterable[Way]) -> Way | None:
    """What to send a peer: what is wanted if it accepts that, else what it accepts and we hold.

    A peer that has said nothing yet is taken to follow the network; None: no common way."""
    if peer is None or not peer.accepts or wanted.text in peer.accepts:
        return wanted
    return next((way for way in held if way.text in peer.accepts), None)

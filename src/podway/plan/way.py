"""How one network's packets travel between nodes: a *way*, with a text that nodes tell each other.

A change of a network's way is a change of generation. Every node publishes which ways it accepts and
which it sends, so that no node is sent what it can't receive yet, and no way of receiving goes while
somebody still sends it. There is no coordinator: docs/migration.md tells the rules, ``generation`` what
a node publishes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from podway.model.objects import family_of
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
        """ "none", "host-gw", "bgp", or "vxlan:VNI:PORT:4": what ``parse`` reads."""
        if self.transport == "vxlan":
            return f"vxlan:{self.vni}:{self.port}:{self.underlay}"
        return self.transport


def parse(text: str) -> Way | None:
    """The way of a text; None for one of a version that knows more."""
    if text == "none":
        return Way("none")
    if text in ("host-gw", "bgp"):
        return Way(text)  # type: ignore[arg-type]
    kind, *numbers = text.split(":")
    if kind == "vxlan" and len(numbers) == 3 and all(number.isdigit() for number in numbers):
        vni, port, underlay = map(int, numbers)
        return Way("vxlan", vni, port, underlay)
    return None


DIRECT = Way("host-gw")


def wanted(spec: NetworkSpec) -> Way:
    """The way that a network declares, and that leads to every peer."""
    if spec.transport == "vxlan":
        return Way("vxlan", spec.vxlan.vni, spec.vxlan.port, FAMILIES[spec.vxlan.underlay])
    return Way(spec.transport)


def of_flannel(spec: NetworkSpec) -> tuple[Way, ...]:
    """By what Flannel's nodes send: IPv4 pods over IPv4, IPv6 pods over IPv6; () when there are none."""
    if not spec.interop or spec.transport != "vxlan":
        return ()
    families = sorted({family_of(pool.cidr) for pool in spec.pools})
    return tuple(Way("vxlan", spec.vxlan.vni, spec.vxlan.port, family) for family in families)


def wishes(spec: NetworkSpec) -> tuple[Way, ...]:
    """The ways that a network's nodes should send by, best first; ``wanted`` is the last."""
    way = wanted(spec)
    return (DIRECT, way) if way.transport == "vxlan" and spec.vxlan.direct_within_subnet else (way,)


class Held(NamedTuple):
    """``wished``: see ``wishes``. ``ways``: what a node keeps up, those first. ``needed``: those of them it
    can't let go of."""

    wished: tuple[Way, ...]
    ways: tuple[Way, ...]
    needed: frozenset[Way]

    @property
    def wanted(self) -> Way:
        """The way that leads to every peer."""
        return self.wished[-1]


def held(wished: tuple[Way, ...], own: Paths | None, said: Iterable[Paths]) -> Held:
    """Needed are what is wished, what others send, and what they can't do without; what this node itself
    has told others to accept is kept too, until that is withdrawn."""
    wanted = wished[-1]
    texts: set[str] = set()
    for paths in said:
        texts.update(paths.sends)
        if paths.accepts and wanted.text not in paths.accepts:
            texts.update(paths.accepts)
    needed = {*wished} | _parsed(texts)
    every = needed | (_parsed(own.accepts) if own is not None else set())
    others = sorted(every - {*wished}, key=lambda way: way.text)
    return Held(wished, (*wished, *others), frozenset(needed))


def _parsed(texts: Iterable[str]) -> set[Way]:
    """ "none" carries nothing: it is no way to keep up beside what is wanted."""
    found = (parse(text) for text in texts)
    return {way for way in found if way is not None and way.transport != "none"}


class Choice(NamedTuple):
    """``now``: the ways that a peer may be sent, best first. ``asked``: the one to be told as sent next."""

    now: tuple[Way, ...]
    asked: Way | None


def choose(wished: tuple[Way, ...], own: Paths | None, peer: Paths | None, ways: Iterable[Way]) -> Choice:
    """What to send a peer. A way is sent only when this node has told that it sends it, and it is accepted
    at both ends, all as seen at one moment: who lets go of a way of receiving tells so first, and then
    looks whether anybody tells of sending it, so that one of the two sees the other.

    Who has said nothing (an earlier version) is taken to follow the network."""
    texts = tuple(way.text for way in wished)
    default = Paths(accepts=texts, sends=texts)
    own, peer = own or default, peer or default
    if wished[-1].transport == "none":
        return Choice(wished, None)
    common = [way for way in (*wished, *ways) if way.text in peer.accepts]
    now = [way for way in common if way.text in own.accepts and way.text in own.sends]
    return Choice(tuple(dict.fromkeys(now)), common[0] if common else None)

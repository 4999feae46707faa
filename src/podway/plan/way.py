"""How one network's packets travel between nodes: a *way*, with a text that nodes tell each other.

A change of a network's way is a change of generation. Every node publishes which ways it accepts and
which it sends, so that no node is sent what it can't receive yet, and no way of receiving goes while
somebody still sends it. There is no coordinator: docs/migration.md tells the rules, ``generation`` what
a node publishes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, get_args

import msgspec

from podway.model.objects import family_of
from podway.model.resources import NetworkSpec, Paths, Transport

FAMILIES = {"ipv4": 4, "ipv6": 6}
#: what a way's text says besides its transport, by fields of ``Way``
NUMBERS: dict[Transport, tuple[str, ...]] = {
    "vxlan": ("vni", "port", "underlay"),
    "ipip": ("underlay",),
    "wireguard": ("port", "underlay"),
}


class Way(msgspec.Struct, frozen=True):
    """A transport with what both ends must agree on. ``underlay`` is 4 or 6, 0 where it is no matter."""

    transport: Transport
    vni: int = 0
    port: int = 0
    underlay: int = 0

    @property
    def text(self) -> str:
        """ "none", "host-gw", "bgp", "ipip:4", "wireguard:PORT:4", "vxlan:VNI:PORT:4": see ``parse``."""
        numbers = (str(getattr(self, field)) for field in NUMBERS.get(self.transport, ()))
        return ":".join((self.transport, *numbers))

    @property
    def alone(self) -> Way | None:
        """What a node has one device of at most; None: nothing. WireGuard takes a port in both families."""
        if not self.port:
            return None
        return msgspec.structs.replace(self, underlay=0) if self.transport == "wireguard" else self

    def carries(self, family: int) -> bool:
        """Whether packets of a family can go by it: IP in IP has only those of its own."""
        return self.transport != "ipip" or self.underlay == family


def parse(text: str) -> Way | None:
    """The way of a text; None for one of a version that knows more."""
    kind, *numbers = text.split(":")
    for transport in get_args(Transport):
        fields = NUMBERS.get(transport, ())
        if kind == transport and len(numbers) == len(fields) and all(n.isdigit() for n in numbers):
            return Way(transport, **dict(zip(fields, map(int, numbers), strict=True)))
    return None


DIRECT = Way("host-gw")


def wanted(spec: NetworkSpec) -> Way:
    """The way that a network declares, and that leads to every peer."""
    if spec.transport == "vxlan":
        return Way("vxlan", spec.vxlan.vni, spec.vxlan.port, FAMILIES[spec.vxlan.underlay])
    if spec.transport == "wireguard":
        return Way("wireguard", port=spec.wireguard.port, underlay=FAMILIES[spec.wireguard.underlay])
    apart = by_family(spec)
    return apart[0] if apart else Way(spec.transport)


def by_family(spec: NetworkSpec) -> tuple[Way, ...]:
    """The ways of a network that carries IPv4 pods over IPv4 and IPv6 pods over IPv6, as IPIP does and
    Flannel's nodes do; () when one way carries both."""
    families = sorted({family_of(pool.cidr) for pool in spec.pools})
    if spec.transport == "ipip":
        return tuple(Way("ipip", underlay=family) for family in families)
    if spec.interop and spec.transport == "vxlan":
        return tuple(Way("vxlan", spec.vxlan.vni, spec.vxlan.port, family) for family in families)
    return ()


def of_block(spec: NetworkSpec, cidr: str) -> Way:
    """By which of the network's ways a block travels.

    Nodes of this cluster too send each other so beside Flannel's: their leases are seen before their blocks
    are, and an IPv6 route whose next hop lies in its own prefix can't be moved to another device (seen)."""
    return next((way for way in by_family(spec) if way.underlay == family_of(cidr)), wanted(spec))


def wishes(spec: NetworkSpec) -> tuple[Way, ...]:
    """The ways that a network's nodes should send by, best first; ``wanted`` is the last."""
    way = wanted(spec)
    return (DIRECT, way) if spec.direct_within_subnet else (way,)


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


def with_families(spec: NetworkSpec, held: Held) -> Held:
    """``held``, and the ways of the network's other family: needed, for nobody says that it wants them."""
    every = by_family(spec)
    ways = (*held.ways, *(way for way in every if way not in held.ways))
    return Held(held.wished, ways, held.needed | set(every))


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

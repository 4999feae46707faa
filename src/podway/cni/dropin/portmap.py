"""``portmap``: ports of the node that lead to the pod (capability ``portMappings``).

By Podway's own nftables maps, whatever ``backend`` says; so no packet is marked, and what only says how the
reference plugin marks (``markMasqBit``, ``externalSetMarkChain``) is checked and has no effect.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from podway.cni import config, runtime
from podway.cni.dropin.ask import Ask
from podway.cni.dropin.conditions import conditions
from podway.cni.dropin.frame import Chained
from podway.cni.errors import wrong
from podway.cni.protocol import Result
from podway.cni.reader import Section
from podway.model.dropin import Piece, Ports
from podway.model.objects import Op, Route, Sysctl, family_of
from podway.node.ledger import remember

if TYPE_CHECKING:
    from podway.node.engine import NodeEngine

_ANYWHERE = {4: "0.0.0.0/0", 6: "::/0"}
_HIGHEST_BIT = 31  # of a packet's mark
_NO_LINKS = ("", "all", "default")  # in net/ipv4/conf these aren't links


def want(ask: Ask, before: Result) -> Ports | None:
    """None without ports. Raises CniError 7, naming the key."""
    _verify(ask.section)
    asked = {family: conditions(ask.section, family) for family in (4, 6)}
    mappings = runtime.ports(ask.section.section("runtimeConfig"))
    if not mappings:
        return None
    addresses = _of_pod(ask, before)
    masked: tuple[tuple[str, str], ...] = ()
    if ask.section.flag("snat", True):
        every = ask.section.flag("masqAll", False)
        masked = tuple(
            (_bare(one), _ANYWHERE[family_of(one)] if every else _subnet(one)) for one in addresses
        )
    return Ports(
        ports=mappings,
        addresses=tuple(_bare(one) for one in addresses),
        link=next((one.name for one in before.interfaces if not one.sandbox), ""),
        masked=masked,
        conditions={family: found for family, found in asked.items() if found},
    )


def _verify(section: Section) -> None:
    backend = section.text("backend")
    if backend not in ("", "iptables", "nftables"):
        raise wrong("backend", f"{backend!r} is neither iptables nor nftables")
    for key, meant in _backends(section):
        backend = backend or meant
        if meant != backend:
            raise wrong(key, f"is in the words of {meant}, the rest of the configuration of {backend}")
    if section.text("externalSetMarkChain") and section.present("markMasqBit"):
        raise wrong("externalSetMarkChain", "and markMasqBit exclude each other")
    section.number("markMasqBit", highest=_HIGHEST_BIT)


def _backends(section: Section) -> Iterator[tuple[str, str]]:
    """The keys that only one of the reference's backends understands, and which."""
    if section.raw("externalSetMarkChain") is not None:
        yield "externalSetMarkChain", "iptables"
    for key in ("conditionsV4", "conditionsV6"):
        if words := "".join(section.texts(key)[:1]):
            yield key, "iptables" if words[0] in "-!" else "nftables"


def _of_pod(ask: Ask, before: Result) -> list[str]:
    """The first address of each family of the pod's interface. Raises CniError 7 without one."""
    found: dict[int, str] = {}
    for one in before.ips:
        if one.interface is not None and 0 <= one.interface < len(before.interfaces):
            of = before.interfaces[one.interface]
            if of.name != ask.me.ifname or not of.sandbox:
                continue
        found.setdefault(family_of(one.address), one.address)
    if not found:
        raise wrong("prevResult", f"has no address of {ask.me.ifname} that ports could lead to")
    return list(found.values())


def _bare(address: str) -> str:
    return str(_parsed(address).ip)


def _subnet(address: str) -> str:
    return str(_parsed(address).network)


def _parsed(address: str) -> ipaddress.IPv4Interface | ipaddress.IPv6Interface:
    try:
        return ipaddress.ip_interface(address)
    except ValueError:
        raise wrong("prevResult", f"{address!r} is not an address") from None


def prepare(engine: NodeEngine, ask: Ask, piece: Piece) -> Piece:
    """The link to the pod lets 127.0.0.1 through; of a foreign one the ledger knows how it was before."""
    assert isinstance(piece.want, Ports)
    link, change = "", None
    if any(family_of(address) == 4 for address, _ in piece.want.masked):  # IPv6 has no route_localnet
        link = "" if config.ifname_problem(piece.want.link) else piece.want.link
        change = _localnet(engine, link)
        if change is None:
            link = _towards(engine, piece.want.addresses)
            change = _localnet(engine, link)
    if change is not None:
        remember(engine.database, engine.planner.desired, [change])
    return msgspec.structs.replace(piece, want=msgspec.structs.replace(piece.want, link=link))


def _localnet(engine: NodeEngine, link: str) -> Op | None:
    """What a link's ``route_localnet`` becomes; None without such a link."""
    if link in _NO_LINKS:
        return None
    wanted = Sysctl(path=f"net/ipv4/conf/{link}/route_localnet", value="1")
    found = engine.kernel.look_up([wanted]).get(wanted.key)
    return Op(wanted, found) if found is not None else None


def _towards(engine: NodeEngine, addresses: tuple[str, ...]) -> str:
    """The link of the longest route to an IPv4 address, "" when there is none but a default route."""
    best, link = 0, ""
    for address in addresses:
        for route in engine.kernel.rtnetlink.dump("route").values():
            if not isinstance(route, Route) or family_of(route.dst) != 4 or family_of(address) != 4:
                continue
            prefix = ipaddress.ip_network(route.dst)
            if prefix.prefixlen > best and ipaddress.ip_address(address) in prefix:
                best, link = prefix.prefixlen, route.dev
    return link


PLUGIN = Chained("portmap", want, prepare, repeats=True)

"""Drop-in ``sbr``: source based routing inside a pod."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

import msgspec

from podway.model.dropin import Piece, SourceRouted
from podway.model.objects import MAIN_TABLE, Actual, Address, AnyObject, Route, Rule, family_of
from podway.plan.attach.pod import BOOT_PROTOCOL, IPV6_METRIC
from podway.plan.dropin.pod import Change, is_link_local, of_interface

FIRST_TABLE = 100  # plugins/meta/sbr of the reference plugins
_DEFAULTS = {4: "0.0.0.0/0", 6: "::/0"}
_LOWEST = 32766  # priority of the rule for the main table, net/ipv4/fib_rules.c
UNSPECIFIED = 0  # RTPROT_UNSPEC: a pod's rules are nobody's in particular


def in_pod(piece: Piece, want: SourceRouted) -> tuple[AnyObject, ...]:
    """The tables and the rules that lead to them."""
    return (*want.routes, *want.rules)


def settled(want: SourceRouted, ifname: str, actual: Actual) -> SourceRouted:
    """With the tables, rules and routes that the interface gets, as things stand in the pod (``actual``).

    A table is taken that no rule leads to and that holds no route, from 100 up."""
    rules = [one for one in actual.values() if isinstance(one, Rule)]
    taken = {one.table for one in rules} | {one.table for one in actual.values() if isinstance(one, Route)}
    found = () if want.table else of_interface(actual, ifname)
    priorities = {family: _next_priority(rules, family) for family in (4, 6)}
    made: list[Rule] = []
    routes: dict[object, Route] = {}
    for address, gateway in want.hops:
        table = want.table or next(n for n in range(FIRST_TABLE, 2**32) if n not in taken)
        taken.add(table)
        family = family_of(address)
        made.append(
            Rule(
                family=family,
                priority=priorities[family],
                table=table,
                src=source(address),
                protocol=UNSPECIFIED,
            )
        )
        priorities[family] -= 1
        if not want.table:
            routes |= {one.key: one for one in _routes(address, gateway, ifname, table, found)}
    return msgspec.structs.replace(want, rules=tuple(made), routes=tuple(routes.values()), found=found)


def left(ifname: str, table: int, actual: Actual) -> tuple[tuple[Rule, ...], tuple[Route, ...]]:
    """What the reference plugin made in a pod (``actual``): rules for the interface's addresses, and its
    routes in the tables that they lead to; those in a ``table`` of the operator's (0: none) are another's.

    By tidyRules, plugins/meta/sbr/main.go; a rule of ip-rule(8)'s has another protocol, and stays."""
    own = {source(one.address) for one in actual.values() if isinstance(one, Address) and one.link == ifname}
    rules = tuple(
        one
        for one in actual.values()
        if isinstance(one, Rule)
        and one.src in own
        and one.protocol == UNSPECIFIED
        and (one.table == table if table else one.table >= FIRST_TABLE and one.table != MAIN_TABLE)
    )
    tables = set() if table else {one.table for one in rules}
    routes = (one for one in actual.values() if isinstance(one, Route) and one.dev == ifname)
    return rules, tuple(one for one in routes if one.table in tables)


def source(address: str) -> str:
    """An address with or without prefix length as a rule's source."""
    return str(ipaddress.ip_network(address.partition("/")[0]))


def as_found(piece: Piece, want: SourceRouted, actual: Actual) -> Change:
    """The routes come back, then tables and rules go."""
    return want.found, in_pod(piece, want)


def _next_priority(rules: Iterable[Rule], family: int) -> int:
    """As the kernel chooses when it isn't told: before all others but the first (the local table's)."""
    priorities = [one.priority for one in rules if one.family == family and one.priority]
    return min(priorities, default=_LOWEST) - 1


def _routes(address: str, gateway: str, ifname: str, table: int, found: Iterable[Route]) -> Iterable[Route]:
    """The default route by the address's gateway, and of the interface's routes those that concern it."""
    family = family_of(address)
    if gateway:
        yield Route(
            dst=_DEFAULTS[family],
            via=gateway,
            dev=ifname,
            table=table,
            protocol=BOOT_PROTOCOL,
            metric=IPV6_METRIC if family == 6 else 0,
        )
    subnet = ipaddress.ip_interface(address).network
    for one in found:
        hints = [
            ipaddress.ip_address(hint) for hint in (one.src, one.via) if hint and not is_link_local(hint)
        ]
        if not hints or any(hint in subnet for hint in hints if hint.version == subnet.version):
            yield msgspec.structs.replace(one, table=table)

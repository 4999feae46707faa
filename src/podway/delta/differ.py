"""Desired against actual: the operations that lead from one to the other, in an order that is safe
to stop after any prefix.

Creations come first and in the order of use (a set before the rule that names it, a link before its
addresses, an address before the route that needs it), removals last and in reverse, so that traffic
that both states carry is never without a way.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import msgspec

from podway.delta import clash
from podway.model.objects import (
    ALIAS_PREFIX,
    Actual,
    AnyObject,
    Desired,
    Key,
    Link,
    NftElement,
    NftRule,
    Op,
    Qdisc,
    Route,
    Sysctl,
    TrafficClass,
)

#: creation order by kind; sysctls of a link come after the links
ORDER = {
    "nftset": 0,
    "nftelement": 1,
    "nftchain": 2,
    "link": 4,
    "address": 6,
    "neighbour": 7,
    "fdb": 8,
    "wgdevice": 5,
    "wgpeer": 7,
    "wgallowed": 8,
    "qdisc": 9,
    "class": 10,
    "filter": 11,
    "route": 12,
    "rule": 13,
    "passage": 14,
}
SYSCTL_OF_NODE, SYSCTL_OF_LINK = 3, 5
LINK_KINDS_FIRST = ("bridge", "vrf", "ifb")  # a port's master, a filter's target

#: fields that only creation looks at
CREATION_ONLY = {"link": {"peer", "adopted", "wireguard"}, "address": {"nodad"}}


class Refusal(msgspec.Struct, frozen=True):
    """A key that can't be brought to what is wanted, because something foreign stands there."""

    key: Key
    reason: str
    fix: str = ""


class Difference(msgspec.Struct, frozen=True):
    """Ordered operations, and what is refused."""

    ops: tuple[Op, ...]
    refusals: tuple[Refusal, ...] = ()


def matches(want: object, have: object, ignored: Collection[str] = ()) -> bool:
    """Whether ``have`` satisfies ``want``: a None in ``want`` asks for nothing."""
    if want is None or want == have:
        return True
    if type(want) is not type(have):
        return False
    if isinstance(want, NftRule) and isinstance(have, NftRule):
        return have.text == f"#{want.digest}" and have.reason == want.reason
    if isinstance(want, tuple) and isinstance(have, tuple):
        return len(want) == len(have) and all(map(matches, want, have))
    if not isinstance(want, msgspec.Struct):
        return False
    return all(
        matches(getattr(want, field), getattr(have, field)) or _nearly(want, have, field)
        for field in want.__struct_fields__
        if field not in ignored
    )


def _nearly(want: object, have: object, field: str) -> bool:
    """The kernel keeps a bucket's burst as the time it takes, in ticks: it comes back rounded."""
    if field != "burst" or not isinstance(want, Qdisc | TrafficClass):
        return False
    wanted, found = getattr(want, field) or 0, getattr(have, field) or 0
    return bool(abs(wanted - found) <= max(64, wanted // 100))


def _with_its_peer(ops: Iterable[Op]) -> list[Op]:
    """A link that is made together with its other end in the same namespace is changed, not made again."""
    made = [op.want for op in ops if op.have is None and isinstance(op.want, Link) and op.want.peer]
    peers = {one.peer.name for one in made if one.peer is not None and not one.peer.namespace}
    return [
        Op(op.want, Link(name=op.want.name, kind=op.want.kind, up=False))
        if op.have is None and isinstance(op.want, Link) and op.want.name in peers
        else op
        for op in ops
    ]


def _rank(op: Op) -> tuple[int, int, int, Key]:
    removal = op.want is None
    subject = op.have if removal else op.want
    assert subject is not None
    key = subject.key
    if isinstance(subject, Sysctl):
        order = SYSCTL_OF_LINK if on_link(subject) else SYSCTL_OF_NODE
    else:
        order = ORDER[key[0]]
    first = 1
    if isinstance(subject, Link) and subject.kind in LINK_KINDS_FIRST:
        first = 0
    elif isinstance(subject, Route) and not subject.via:
        first = 0  # a next hop is reached by it
    elif isinstance(subject, Link) and op.want is not None and op.have is not None:
        first = 2  # it may be the other end of one that is made
    if removal and isinstance(subject, NftElement) and "/" in subject.value[0]:
        # A set of prefixes takes none that overlaps another: a pool that grows changes in one transaction.
        return (0, order, -1, key)
    if removal:
        return (1, -order, -first, key)
    return (0, order, first, key)


def ordered(ops: Iterable[Op]) -> tuple[Op, ...]:
    """``ops`` in the order in which they may be applied."""
    return tuple(sorted(ops, key=_rank))


def creations(objects: Iterable[AnyObject]) -> tuple[Op, ...]:
    """All of these anew, those of a kind as they are given: a link's first address is its primary one."""
    ops = (Op(one, None) for one in {one.key: one for one in objects}.values())
    return tuple(sorted(ops, key=lambda op: _rank(op)[:3]))


def _is_ours(link: Link) -> bool:
    return bool(link.alias and link.alias.startswith(ALIAS_PREFIX))


def _refuse(want: AnyObject, have: AnyObject | None) -> Refusal | None:
    """Podway changes no link that it did not make, but the bridge it was told to adopt."""
    if not isinstance(want, Link) or not want.kind:
        return None
    if want.adopted:
        if have is None:
            fix = f"make the bridge {want.name} first, or set bridge.adopt to false"
            return Refusal(want.key, f"there is no bridge {want.name} to adopt", fix)
        if isinstance(have, Link) and have.kind != want.kind:
            return Refusal(want.key, f"{want.name} is a {have.kind or 'hardware'} link, not a bridge")
        return None
    if (
        isinstance(have, Link)
        and want.alias is not None
        and not _is_ours(have)
        and not _has_our_mac(want, have)
    ):
        fix = "remove or rename it, choose another bridge.name, or set bridge.adopt to true"
        return Refusal(
            want.key, f"a {have.kind or 'hardware'} link {want.name} that Podway did not make", fix
        )
    return None


def _has_our_mac(want: Link, have: Link) -> bool:
    """A link that lost its alias: a MAC that follows from Podway's own names is proof enough; so is an
    IP tunnel's name beside its end, which no two can have."""
    if want.iptunnel is not None:
        return (have.kind, have.iptunnel) == (want.kind, want.iptunnel)
    return bool(want.mac) and (have.kind, have.mac) == (want.kind, want.mac)


def _step(want: AnyObject | None, have: AnyObject | None) -> list[Op]:
    if want is None or have is None:
        return [Op(want, have)]
    if matches(want, have, CREATION_ONLY.get(want.key[0], ())):
        return []
    return [Op(want, have)]


def is_remade(want: object, have: object) -> bool:
    """Whether a change is one that the kernel can't make: the link goes, and comes anew in its place."""
    if not isinstance(want, Link) or not isinstance(have, Link):
        return False
    same = matches(want.vxlan, have.vxlan) and matches(want.iptunnel, have.iptunnel)
    return want.kind != have.kind or not same


def undone(op: Op) -> Op:
    """What takes an operation back; a change's touches nothing but what that changed."""
    if op.want is None or op.have is None:
        return Op(op.have, op.want)
    return Op(op.have, _changed(op.have, op.want))


def _changed(have: Any, want: Any) -> Any:
    """``have`` after it became what ``want`` asks for."""
    if want is None:
        return have
    if not isinstance(want, msgspec.Struct) or type(want) is not type(have):
        return want
    fields = want.__struct_fields__
    return type(want)(**{field: _changed(getattr(have, field), getattr(want, field)) for field in fields})


def on_link(value: AnyObject) -> str:
    """The link that an object stands on and goes with, or whose setting it is; "" for none."""
    if isinstance(value, Route):
        return value.dev
    if isinstance(value, Sysctl):  # net/ipv4/conf/LINK/…, net/ipv4/neigh/LINK/…
        parts = value.path.split("/")
        return parts[3] if len(parts) == 5 and parts[3] not in ("all", "default") else ""
    return getattr(value, "link", "")


def diff(
    desired: Desired, actual: Actual, keys: Iterable[Key] | None = None, frozen: Collection[Key] = ()
) -> Difference:
    """What to do so that ``actual`` becomes ``desired``.

    ``keys`` limits the look (default: all of both). ``frozen`` keys are left as they are (conflicts).
    A link in ``actual`` that isn't Podway's is never removed.
    """
    ops: list[Op] = []
    refusals: list[Refusal] = []
    remade = {
        key[1]
        for key, have in actual.items()
        if key[0] == "link" and key in desired and is_remade(desired[key], have) and key not in frozen
    }
    foreign = clash.foreign_tunnels(actual)
    for key in set(desired) | set(actual) if keys is None else keys:
        if key in frozen:
            continue
        want, have = desired.get(key), actual.get(key)
        if have is not None and on_link(have) in remade:
            have = None  # it goes with its link
        if want is None:
            if have is not None and not (isinstance(have, Link) and not _is_ours(have)):
                ops += _step(None, have)
            continue
        refusal = _refuse(want, have)
        if have is None and (why := clash.objection(want, foreign)) is not None:
            refusal = Refusal(key, *why)
        if refusal is not None:
            refusals.append(refusal)
            continue
        ops += _step(want, have)
    blocked = {refusal.key[1] for refusal in refusals if refusal.key[0] == "link"}
    blocked |= {key[1] for key in frozen if key[0] == "link" and key not in actual}
    kept = [op for op in _with_its_peer(ops) if not _touches(op, blocked)]
    return Difference(ordered(kept), tuple(sorted(refusals, key=lambda r: r.key)))


def _touches(op: Op, links: Collection[str]) -> bool:
    """Whether ``op`` would put something on one of ``links``."""
    return bool(links) and op.want is not None and on_link(op.want) in links

"""What of the cluster's state can't be right, and what the kernel keeps because of it. Pure.

Whatever wrote it, a record that can't be read or that contradicts another is isolated: nothing new is
made on its account, nothing that it could be about is taken away, status names it with what it
contradicts, and everything else goes on. Of two that contradict each other neither is believed: the
kernel keeps whichever it was told before.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import msgspec

from podway.ipam.blocks import block_size
from podway.model import names
from podway.model.objects import ALIAS_PREFIX, Address, AnyObject, Fdb, Link, Neighbour, NftElement, Route
from podway.model.resources import Network, Node, NodeFacts, Snapshot, Unreadable
from podway.plan.notes import Note
from podway.plan.way import Way, wanted

Span = tuple[int, int, int]  # family, first, last

SHARED = ("bridge", "vxlan", "wireguard")  # links that a network has one of, by their aliases


class Doubt(msgspec.Struct, frozen=True, kw_only=True):
    """Why something is isolated, and what of the kernel it could be about.

    ``prefixes``: blocks, whose route and two first addresses it could be. ``macs``: forwarding entries,
    None for all.
    ``network``: a network that nobody can read, so whatever is not certainly another's. ``nodes``: any
    node's address."""

    note: Note
    prefixes: tuple[str, ...] = ()
    macs: frozenset[str] | None = frozenset()
    network: str = ""
    nodes: bool = False


class Finding(NamedTuple):
    """A doubt with the blocks that it isolates; ``own``: this node's too. ``closes``: no new pod in them."""

    doubt: Doubt
    blocks: tuple[str, ...] = ()
    own: bool = False
    closes: bool = False


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """``snapshot`` without what is isolated. ``closed``: blocks that no new address is taken from.

    ``avoid``: prefixes that no block may be claimed in, and why."""

    snapshot: Snapshot
    doubts: tuple[Doubt, ...] = ()
    closed: frozenset[str] = frozenset()
    avoid: dict[str, str] = {}


@lru_cache(maxsize=65536)
def span(text: str) -> Span:
    """Family, first and last address of a prefix, or of an address with or without prefix length."""
    network = ipaddress.ip_network(text, strict=False)
    return network.version, int(network.network_address), int(network.broadcast_address)


def outermost(prefixes: Iterable[str]) -> tuple[str, ...]:
    """``prefixes`` without those that lie within another."""
    kept: list[str] = []
    for prefix in sorted(prefixes, key=lambda p: (span(p)[0], span(p)[1], -span(p)[2])):
        if not kept or not within(span(prefix), span(kept[-1])):
            kept.append(prefix)
    return tuple(kept)


def within(inner: Span, outer: Span) -> bool:
    """Whether all of ``inner`` lies in ``outer``."""
    return inner[0] == outer[0] and outer[1] <= inner[1] and inner[2] <= outer[2]


def judge(snapshot: Snapshot, facts: NodeFacts) -> Judged:
    """Look at the whole snapshot, as the node of ``facts`` sees it."""
    underlay = dict(_underlay(snapshot, facts))
    nested = list(_nested(snapshot, underlay))
    findings = [
        *map(_unreadable_in(snapshot), snapshot.unreadable),
        *_pools(nested),
        *_blocks(snapshot, nested),
    ]
    findings += [*_same_tunnel(snapshot), *_same_address(snapshot, facts)]
    dropped: set[str] = set()
    closed: set[str] = set()
    for finding in findings:
        mine = {cidr for cidr in finding.blocks if snapshot.blocks[cidr].spec.node == facts.name}
        dropped |= set(finding.blocks) - (set() if finding.own else mine)
        closed |= mine if finding.closes else set()
    blocks = {cidr: block for cidr, block in snapshot.blocks.items() if cidr not in dropped}
    contested = {
        inner.prefix: f"networks {outer.whose} and {inner.whose} both have {inner.prefix} in a pool"
        for inner, outer in nested
        if (inner.kind, outer.kind) == ("pool", "pool") and inner.whose != outer.whose
    }
    return Judged(
        snapshot=msgspec.structs.replace(snapshot, blocks=blocks) if dropped else snapshot,
        doubts=tuple(finding.doubt for finding in findings),
        closed=frozenset(closed),
        avoid=contested | underlay,
    )


def firsts(node: Node) -> list[str]:
    """A node's first address of each family, without prefix length: where its peers send to."""
    return [address for family in (4, 6) if (address := node.address(family))]


def underlay_of(node: Node) -> Iterator[tuple[str, str]]:
    """(Prefix, what it is) of a node's addresses."""
    for address in node.spec.addresses:
        ip = ipaddress.ip_interface(address).ip
        yield f"{ip}/{ip.max_prefixlen}", f"{ip}, an address of node {node.name}"


def _underlay(snapshot: Snapshot, facts: NodeFacts) -> Iterator[tuple[str, str]]:
    """(Prefix, what it is) of what carries the tunnels and next hops."""
    for node in snapshot.nodes.values():
        yield from underlay_of(node)
    for address in facts.others:
        network = ipaddress.ip_interface(address).network
        yield str(network), f"{network}, which is on a link of this node that other software made"
    for uplink in facts.uplinks:
        for address in uplink.addresses:
            network = ipaddress.ip_interface(address).network
            yield str(network), f"{network}, which is on this node's link {uplink.name}"


class Item(NamedTuple):
    """One prefix of the sweep: a ``pool`` or ``block`` of network ``whose``, or ``underlay``: what it is."""

    kind: str
    prefix: str
    whose: str


RANK = {"pool": 0, "underlay": 1, "block": 2}


def _nested(snapshot: Snapshot, underlay: Mapping[str, str]) -> Iterator[tuple[Item, Item]]:
    """Every (inner, outer) pair of prefixes, blocks in pools included: prefixes nest or are apart."""
    items = [Item("pool", p.cidr, name) for name, n in snapshot.networks.items() for p in n.spec.pools]
    items += [Item("underlay", prefix, what) for prefix, what in underlay.items()]
    items += [Item("block", cidr, block.spec.network) for cidr, block in snapshot.blocks.items()]

    def order(item: Item) -> tuple[int, int, int, int, str]:
        family, first, last = span(item.prefix)
        return family, first, -last, RANK[item.kind], item.whose

    around: list[Item] = []
    for item in sorted(items, key=order):
        while around and not within(span(item.prefix), span(around[-1].prefix)):
            around.pop()
        yield from ((item, outer) for outer in around)
        around.append(item)


def _pools(nested: Iterable[tuple[Item, Item]]) -> Iterator[Finding]:
    for inner, outer in nested:
        if (inner.kind, outer.kind) == ("pool", "pool") and inner.whose != outer.whose:
            reason = f"its pool {inner.prefix} overlaps pool {outer.prefix} of network {outer.whose}"
            fix = f"change one of the two pools; until then no block is claimed in {inner.prefix}"
            yield Finding(Doubt(note=Note(f"network {inner.whose}", reason, fix)))


def _blocks(snapshot: Snapshot, nested: Sequence[tuple[Item, Item]]) -> Iterator[Finding]:
    pairs = [(inner, outer) for inner, outer in nested if (inner.kind, outer.kind) == ("block", "pool")]
    pooled = {inner.prefix for inner, outer in pairs if inner.whose == outer.whose}
    yield from (
        _outside(snapshot, cidr) for cidr in snapshot.blocks if not _may_stand(snapshot, cidr, pooled)
    )
    for inner, outer in nested:
        kinds = (inner.kind, outer.kind)
        cidrs = {item.prefix for item in (inner, outer) if item.kind == "block"}
        if "pool" in kinds or not cidrs <= pooled:
            continue
        if kinds == ("block", "block"):
            yield from _overlapping(snapshot, inner.prefix, outer.prefix)
        elif cidrs:
            what = outer.whose if inner.kind == "block" else inner.whose
            fix = "delete the block and use another pool, or renumber the link"
            yield _isolated(snapshot, cidrs.pop(), f"it overlaps {what}", fix)


def _may_stand(snapshot: Snapshot, cidr: str, pooled: Container[str]) -> bool:
    return cidr in pooled or snapshot.blocks[cidr].spec.network not in snapshot.networks


def _outside(snapshot: Snapshot, cidr: str) -> Finding:
    network = snapshot.networks[snapshot.blocks[cidr].spec.network]
    pools = ", ".join(pool.cidr for pool in network.spec.pools)
    why = f"it is in no pool of network {network.name} ({pools}), and so nobody's to claim"
    return _isolated(snapshot, cidr, why, f"podway delete block {cidr} --force, or add its pool")


def _macs(snapshot: Snapshot, cidrs: Iterable[str]) -> frozenset[str]:
    specs = [snapshot.blocks[cidr].spec for cidr in cidrs]
    return frozenset(names.mac("vtep", spec.network, spec.node) for spec in specs)


def _isolated(snapshot: Snapshot, cidr: str, reason: str, fix: str) -> Finding:
    note = Note(f"block {cidr} of node {snapshot.blocks[cidr].spec.node}", reason, fix)
    doubt = Doubt(note=note, prefixes=(cidr,), macs=_macs(snapshot, (cidr,)))
    return Finding(doubt, (cidr,), own=True, closes=True)


def _overlapping(snapshot: Snapshot, inner: str, outer: str) -> Iterator[Finding]:
    """Blocks of one size never overlap: the one whose size is not its pool's is wrong, else both are."""
    pair = (inner, outer)
    odd = [cidr for cidr in pair if not _has_pools_size(snapshot, cidr)]
    for wrong in odd if len(odd) == 1 else pair:
        other = pair[pair[0] == wrong]
        why = f"it overlaps block {other} of node {snapshot.blocks[other].spec.node}"
        yield _isolated(snapshot, wrong, why, f"podway delete block {wrong} --force, if it is the wrong one")


def _has_pools_size(snapshot: Snapshot, cidr: str) -> bool:
    network = snapshot.networks[snapshot.blocks[cidr].spec.network]
    pools = [pool for pool in network.spec.pools if within(span(cidr), span(pool.cidr))]
    return any(int(cidr.rpartition("/")[2]) == block_size(network, pool) for pool in pools)


def _same_tunnel(snapshot: Snapshot) -> Iterator[Finding]:
    """Two networks in one tunnel would be given each other's packets."""
    users: dict[Way, list[Network]] = {}
    for network in snapshot.networks.values():
        if (alone := wanted(network.spec).alone) is not None:
            users.setdefault(alone, []).append(network)
    for way, networks in users.items():
        if len(networks) > 1:
            both = sorted(network.name for network in networks)
            what = f"VNI {way.vni} on UDP port {way.port}" if way.vni else f"UDP port {way.port}"
            why = f"networks {' and '.join(both)} both want {what}"
            cidrs = tuple(c for c, block in snapshot.blocks.items() if block.spec.network in both)
            field = "vxlan.vni" if way.vni else "wireguard.port"
            note = Note(f"network {both[0]}", why, f"give one of them another spec.{field}")
            yield Finding(Doubt(note=note, prefixes=cidrs, macs=_macs(snapshot, cidrs)), cidrs)


def _same_address(snapshot: Snapshot, facts: NodeFacts) -> Iterator[Finding]:
    """Peers send to the first address of each family. Who has it rightly can't be told from here.

    One of them may be dead for long, so both stay programmed; only not by way of this node itself."""
    own = {address.partition("/")[0] for uplink in facts.uplinks for address in uplink.addresses}
    holders: dict[str, list[str]] = {}
    for node in snapshot.nodes.values():
        for address in firsts(node):
            holders.setdefault(address, []).append(node.name)
    for address, claimants in holders.items():
        others = {name for name in claimants if name != facts.name}
        mistaken = others if address in own else set()
        if len(claimants) < 2 and not mistaken:
            continue
        both = sorted({*claimants, facts.name} if mistaken else claimants)
        why = f"nodes {' and '.join(both)} both say that {address} is theirs"
        fix = "renumber one of the machines, set its Node's spec.addresses, or delete the Node that is gone"
        cidrs = tuple(c for c, block in snapshot.blocks.items() if block.spec.node in mistaken)
        doubt = Doubt(note=Note(f"node {both[0]}", why, fix), prefixes=cidrs, macs=_macs(snapshot, cidrs))
        yield Finding(doubt, cidrs)


def _unreadable_in(snapshot: Snapshot) -> Callable[[Unreadable], Finding]:
    """A record that can't be read, as a finding."""

    def finding(one: Unreadable) -> Finding:
        known = {"Network": [*snapshot.networks], "Node": [*snapshot.nodes], "Block": [*snapshot.blocks]}
        known["Borrow"] = [*snapshot.borrows]
        kept = one.name in known.get(one.kind, ())
        fix = "its last good value stays in force" if kept else "nothing that it could be about is removed"
        note = Note(f"{one.kind.lower()} {one.name}", one.why, f"mend or delete it in the store; {fix}")
        if kept:
            return Finding(Doubt(note=note))
        if one.kind == "Network":
            return Finding(Doubt(note=note, network=one.name))
        if one.kind == "Node":
            cidrs = [cidr for cidr, block in snapshot.blocks.items() if block.spec.node == one.name]
            macs = frozenset(names.mac("vtep", network, one.name) for network in snapshot.networks)
            return Finding(Doubt(note=note, prefixes=tuple(cidrs), macs=macs, nodes=True))
        try:
            span(one.name)
        except ValueError:
            return Finding(Doubt(note=note))  # no node claims by such a name: it is about nothing
        return Finding(Doubt(note=note, prefixes=(one.name,), macs=None))

    return finding


def keeps(doubts: Iterable[Doubt], value: AnyObject, networks: Mapping[str, Network], own: set[str]) -> bool:
    """Whether ``value`` may not be removed, because one of ``doubts`` could be about it.

    ``networks``: those known; ``own``: links that are wanted, and so are certainly known networks'."""
    return any(_could_be_about(doubt, value, networks, own) for doubt in doubts)


def _place(value: AnyObject) -> Span | None:
    """The address or prefix that an object is about."""
    if isinstance(value, Route):
        return span(value.dst)
    if isinstance(value, Address | Neighbour):
        return span(value.address.partition("/")[0])
    for text in value.value if isinstance(value, NftElement) else ():
        try:
            return span(text)
        except ValueError:
            continue
    return None


def _is_of_block(value: AnyObject, place: Span | None, block: Span) -> bool:
    """A block is a route, a next hop (its .0) and a gateway (its .1)."""
    if isinstance(value, Route):
        return place == block
    is_address = isinstance(value, Address | Neighbour) and place is not None and place[0] == block[0]
    return is_address and place is not None and place[1] - block[1] in (0, 1)


def _is_of_vtep(value: AnyObject) -> bool:
    """A forwarding entry, or the next hop of IPv6 blocks, whose address says nothing of the block."""
    return isinstance(value, Fdb) or (isinstance(value, Neighbour) and value.address.startswith("fe80:"))


def _could_be_about(doubt: Doubt, value: AnyObject, networks: Mapping[str, Network], own: set[str]) -> bool:
    place = _place(value)
    if any(_is_of_block(value, place, span(prefix)) for prefix in doubt.prefixes):
        return True
    if _is_of_vtep(value) and (doubt.macs is None or getattr(value, "mac", "") in doubt.macs):
        return True
    if doubt.nodes and isinstance(value, NftElement) and value.set in ("nodes4", "nodes6"):
        return True
    return bool(doubt.network) and not _is_anothers(value, place, doubt.network, networks, own)


def _is_anothers(
    value: AnyObject, place: Span | None, network: str, networks: Mapping[str, Network], own: set[str]
) -> bool:
    """Whether ``value`` certainly belongs to another network than the unreadable one."""
    if isinstance(value, Link):
        alias = value.alias or ""
        kind, _, whose = alias.removeprefix(ALIAS_PREFIX).partition(":")
        return alias.startswith(ALIAS_PREFIX) and kind in SHARED and whose != network
    if place is not None:
        return any(within(place, span(pool.cidr)) for n in networks.values() for pool in n.spec.pools)
    return getattr(value, "link", "") in own

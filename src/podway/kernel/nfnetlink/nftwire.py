"""nf_tables messages: set elements, sets, chains and rules ↔ values. Pure.

Numbers from linux/netfilter/nf_tables.h; data type numbers from nftables' include/datatype.h.
"""

from __future__ import annotations

import functools
import hashlib
import ipaddress
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from podway.kernel.netlink import wire
from podway.model.objects import NftElement, NftSet

SUBSYSTEM = 10 << 8  # NFNL_SUBSYS_NFTABLES
GETCHAIN, GETRULE, GETSET, GETSETELEM = 4, 7, 10, 13
NEWSETELEM, DELSETELEM = 12, 14
FAMILIES = {"inet": 1, "arp": 3, "bridge": 7}
FAMILY_NAMES = {number: name for name, number in FAMILIES.items()}
HEADER = struct.Struct(">BBH")  # struct nfgenmsg: family, version, resource
BATCH_BEGIN, BATCH_END = 0x10, 0x11

ELEMENTS_TABLE, ELEMENTS_SET, ELEMENTS = 1, 2, 3
ELEM_KEY, ELEM_DATA, ELEM_FLAGS, ELEM_KEY_END = 1, 2, 3, 10
DATA_VALUE = 1
LIST_ELEM = 1
INTERVAL_END = 1
SET_TABLE, SET_NAME, SET_FLAGS, SET_KEY_TYPE, SET_DATA_TYPE = 1, 2, 3, 4, 6
SET_IS_INTERVAL, SET_IS_MAP = 0x4, 0x8
CHAIN_TABLE, CHAIN_NAME, CHAIN_HOOK, CHAIN_POLICY, CHAIN_TYPE = 1, 3, 4, 5, 7
HOOK_NUM, HOOK_PRIORITY = 1, 2
RULE_TABLE, RULE_CHAIN, RULE_EXPRESSIONS, RULE_USERDATA = 1, 2, 4, 7
EXPR_NAME, EXPR_DATA = 1, 2
USERDATA_COMMENT = 0

TYPE_BITS = 6
ND_TARGET = "@th,64,128"  # a raw payload, whose type is "integer": the target of a neighbour advertisement
TYPES = {ND_TARGET: 4, "ipv4_addr": 7, "ipv6_addr": 8, "ether_addr": 9}
TYPES |= {"inet_proto": 12, "inet_service": 13, "ifname": 41}
TYPE_NAMES = {number: name for name, number in TYPES.items()}
PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}
PROTOCOL_NAMES = {number: name for name, number in PROTOCOLS.items()}
HOOKS = ("prerouting", "input", "forward", "output", "postrouting")
ARP_HOOKS = ("input", "output", "forward")  # linux/netfilter_arp.h


def begin() -> bytes:
    """The message that opens a transaction."""
    return wire.HEADER.pack(20, BATCH_BEGIN, wire.REQUEST, 0, 0) + HEADER.pack(0, 0, SUBSYSTEM >> 8)


def end() -> bytes:
    """The message that commits it."""
    return wire.HEADER.pack(20, BATCH_END, wire.REQUEST, 0, 0) + HEADER.pack(0, 0, SUBSYSTEM >> 8)


def _message(kind: int, flags: int, family: int, *parts: bytes) -> bytes:
    return wire.message(SUBSYSTEM | kind, flags, HEADER.pack(family, 0, 0) + b"".join(parts))


def type_id(types: Sequence[str]) -> int:
    """The number of a (concatenated) data type: six bits a part."""
    number = 0
    for name in types:
        number = (number << TYPE_BITS) | TYPES[name]
    return number


def type_names(number: int) -> tuple[str, ...]:
    """The inverse of ``type_id``."""
    names: list[str] = []
    while number:
        names.append(TYPE_NAMES.get(number & ((1 << TYPE_BITS) - 1), "unknown"))
        number >>= TYPE_BITS
    return tuple(reversed(names))


def pack_part(kind: str, text: str) -> bytes:
    """The bytes of one part of a key or datum, without padding."""
    if kind in ("ipv4_addr", "ipv6_addr"):
        return wire.ip_bytes(text)
    if kind == "ether_addr":
        return wire.mac_bytes(text)
    if kind == "ifname":
        return text.encode().ljust(16, b"\0")
    if kind == "inet_service":
        return struct.pack(">H", int(text))
    if kind == "inet_proto":
        return bytes((PROTOCOLS[text],))
    return wire.ip_bytes(text)  # ND_TARGET


SIZES = {"ipv4_addr": 4, "ipv6_addr": 16, "ether_addr": 6, "ifname": 16, "inet_service": 2, "inet_proto": 1}


def unpack_part(kind: str, data: bytes) -> str:
    """The inverse of ``pack_part``."""
    if kind == "ether_addr":
        return wire.mac_text(data)
    if kind == "ifname":
        return wire.string(data)
    if kind == "inet_service":
        return str(int.from_bytes(data, "big"))
    if kind == "inet_proto":
        return PROTOCOL_NAMES.get(data[0], str(data[0]))
    return wire.ip_text(data)


def pack(types: Sequence[str], texts: Sequence[str]) -> bytes:
    """A key or datum; the parts of a concatenation are padded to four bytes each."""
    if len(types) == 1:
        return pack_part(types[0], texts[0])
    parts = (pack_part(kind, text) for kind, text in zip(types, texts, strict=True))
    return b"".join(part + b"\0" * (-len(part) & 3) for part in parts)


def unpack(types: Sequence[str], data: bytes) -> tuple[str, ...]:
    """The inverse of ``pack``."""
    texts, at = [], 0
    for kind in types:
        size = SIZES.get(kind, 16)
        texts.append(unpack_part(kind, data[at : at + size]))
        at += (size + 3) & ~3
    return tuple(texts)


def element(one: NftElement, of: NftSet, table: str, delete: bool = False) -> bytes:
    """NFT_MSG_NEWSETELEM or DELSETELEM of one element (two for a prefix: its ends)."""
    if of.interval and len(of.type) > 1:
        ends = [_range(one)]
    elif of.interval:
        network = ipaddress.ip_network(one.value[0])
        last = int(network.broadcast_address) + 1
        size = 4 if network.version == 4 else 16
        ends = [_item(network.network_address.packed)]
        if last < 1 << (size * 8):
            ends.append(_item(last.to_bytes(size, "big"), flags=INTERVAL_END))
    else:
        data = pack(of.data, one.data) if of.data and not delete else b""
        ends = [_item(pack(of.type, one.value), data)]
    kind, flags = (DELSETELEM, 0) if delete else (NEWSETELEM, wire.CREATE)
    return _of_set(kind, flags, of, table, *ends)


def get_element(one: NftElement, of: NftSet, table: str) -> bytes:
    """NFT_MSG_GETSETELEM of one element that has one key: not of a set of prefixes."""
    item = _range(one) if of.interval else _item(pack(of.type, one.value))
    return _of_set(GETSETELEM, 0, of, table, item)


def _of_set(kind: int, flags: int, of: NftSet, table: str, *items: bytes) -> bytes:
    names = wire.text(ELEMENTS_TABLE, table), wire.text(ELEMENTS_SET, of.name)
    listed = [wire.nested(ELEMENTS, *items)] if items else []
    return _message(kind, flags, FAMILIES[of.family], *names, *listed)


def _range(one: NftElement) -> bytes:
    """A concatenation of prefixes: its first key and its last."""
    key, top = (b"".join(side) for side in zip(*map(_bounds, one.value), strict=True))
    return _item(key, end=top)


@functools.lru_cache(1024)  # the same subnets for every pod
def _bounds(prefix: str) -> tuple[bytes, bytes]:
    network = ipaddress.ip_network(prefix)
    return network.network_address.packed, network.broadcast_address.packed


def _item(key: bytes, data: bytes = b"", flags: int = 0, end: bytes = b"") -> bytes:
    parts = [wire.nested(ELEM_KEY, wire.attribute(DATA_VALUE, key))]
    if data:
        parts.append(wire.nested(ELEM_DATA, wire.attribute(DATA_VALUE, data)))
    if end:
        parts.append(wire.nested(ELEM_KEY_END, wire.attribute(DATA_VALUE, end)))
    if flags:
        parts.append(wire.attribute(ELEM_FLAGS, struct.pack(">I", flags)))
    return wire.nested(LIST_ELEM, *parts)


def dump_elements(of: NftSet, table: str) -> bytes:
    """A request for all elements of a set."""
    return _of_set(GETSETELEM, 0, of, table)


class RawElement(NamedTuple):
    """An element as the kernel has it. ``end``: of a range of concatenated keys."""

    key: bytes
    data: bytes
    flags: int
    end: bytes = b""


def raw_elements(payload: bytes) -> list[RawElement]:
    """The elements in a message."""
    outer = wire.attributes(payload, HEADER.size).get(ELEMENTS, b"")
    found: list[RawElement] = []
    for inner in items(outer):
        flags = int.from_bytes(inner.get(ELEM_FLAGS, b"\0"), "big")
        key, data, end = (_value(inner.get(kind, b"")) for kind in (ELEM_KEY, ELEM_DATA, ELEM_KEY_END))
        found.append(RawElement(key, data, flags, end))
    return found


def items(raw: bytes) -> Iterator[wire.Attributes]:
    """The attributes of each item of a list."""
    at = 0
    while at + 4 <= len(raw):
        length, _ = wire.ATTRIBUTE.unpack_from(raw, at)
        if length < 4:
            return
        yield wire.attributes(raw[at + 4 : at + length])
        at += (length + 3) & ~3


def _value(nested: bytes) -> bytes:
    return wire.attributes(nested).get(DATA_VALUE, b"")


def elements(of: NftSet, raw: Sequence[RawElement]) -> list[NftElement]:
    """Values of a set's raw elements; an interval set's ends are paired to prefixes again."""
    if of.interval and len(of.type) > 1:
        values = (_ranges(unpack(of.type, one.key), unpack(of.type, one.end or one.key)) for one in raw)
        return [NftElement(family=of.family, set=of.name, value=value) for value in values]
    if of.interval:
        return [NftElement(family=of.family, set=of.name, value=(text,)) for text in _prefixes(raw)]
    return [
        NftElement(
            family=of.family,
            set=of.name,
            value=unpack(of.type, key),
            data=unpack(of.data, data) if of.data else (),
        )
        for key, data, *_ in raw
    ]


def _ranges(first: Sequence[str], last: Sequence[str]) -> tuple[str, ...]:
    """Each part as a prefix; one that is none (somebody else's) as "a-b"."""
    return tuple(map(_between, first, last))


@functools.lru_cache(1024)
def _between(start: str, end: str) -> str:
    found = list(ipaddress.summarize_address_range(ipaddress.ip_address(start), ipaddress.ip_address(end)))
    return str(found[0]) if len(found) == 1 else f"{start}-{end}"


def _prefixes(raw: Sequence[RawElement]) -> list[str]:
    """Prefixes of interval ends. A range that is no prefix (somebody else's) becomes several."""
    # an end and the next start may be the same address: the end comes first
    marks = sorted((key, not flags & INTERVAL_END) for key, _, flags, *_ in raw)
    texts: list[str] = []
    start: bytes | None = None
    for key, opens in [*marks, (b"", False)]:
        if start is not None and (not opens or key == b""):
            first = ipaddress.ip_address(start)
            top = (1 << first.max_prefixlen) - 1
            last = type(first)(int.from_bytes(key, "big") - 1 if key else top)
            texts += [str(n) for n in ipaddress.summarize_address_range(first, last)]
            start = None
        if opens:
            start = key
    return texts


def dump(kind: int, family: int, *parts: bytes) -> bytes:
    """A request for all sets, chains or rules of a family, or those that ``parts`` select."""
    return _message(kind, 0, family, *parts)


def decode_set(payload: bytes, table: str) -> NftSet | None:
    """The set of a message; None when it is another table's."""
    family = FAMILY_NAMES.get(payload[0])
    found = wire.attributes(payload, HEADER.size)
    if family is None or wire.string(found[SET_TABLE]) != table:
        return None
    flags = int.from_bytes(found.get(SET_FLAGS, b"\0"), "big")
    data = int.from_bytes(found.get(SET_DATA_TYPE, b"\0"), "big") if flags & SET_IS_MAP else 0
    return NftSet(
        family=family,
        name=wire.string(found[SET_NAME]),
        type=type_names(int.from_bytes(found[SET_KEY_TYPE], "big")),
        data=type_names(data),
        interval=bool(flags & SET_IS_INTERVAL),
    )


def decode_chain(payload: bytes, table: str) -> tuple[str, str, str, str, int] | None:
    """(family, name, type, hook, priority) of a chain; None when it is another table's."""
    family = FAMILY_NAMES.get(payload[0])
    found = wire.attributes(payload, HEADER.size)
    if family is None or wire.string(found[CHAIN_TABLE]) != table:
        return None
    name = wire.string(found[CHAIN_NAME])
    if CHAIN_HOOK not in found:
        return family, name, "filter", "", 0
    hook = wire.attributes(found[CHAIN_HOOK])
    number = int.from_bytes(hook[HOOK_NUM], "big")
    hooks = ARP_HOOKS if family == "arp" else HOOKS
    priority = int.from_bytes(hook[HOOK_PRIORITY], "big", signed=True)
    return family, name, wire.string(found[CHAIN_TYPE]), hooks[number], priority


def decode_rule(payload: bytes, table: str) -> tuple[str, str, str, str] | None:
    """(family, chain, comment, digest of what it does) of a rule; None when it is another table's."""
    family = FAMILY_NAMES.get(payload[0])
    found = wire.attributes(payload, HEADER.size)
    if family is None or wire.string(found[RULE_TABLE]) != table:
        return None
    said = comment(found.get(RULE_USERDATA, b""))
    return family, wire.string(found[RULE_CHAIN]), said, _digest(found.get(RULE_EXPRESSIONS, b""))


def comment(userdata: bytes) -> str:
    """A rule's, "" for none; libnftnl's own packing: type, length, value, one byte each for the first two."""
    at = 0
    while at + 2 <= len(userdata):
        kind, length = userdata[at], userdata[at + 1]
        if kind == USERDATA_COMMENT:
            return wire.string(userdata[at + 2 : at + 2 + length])
        at += 2 + length
    return ""


def _digest(expressions: bytes) -> str:
    """Of the expressions, without what a counter has counted."""
    hashed = hashlib.sha256()
    for inner in items(expressions):
        hashed.update(inner[EXPR_NAME])
        if wire.string(inner[EXPR_NAME]) != "counter":
            hashed.update(inner.get(EXPR_DATA, b""))
    return hashed.hexdigest()[:16]

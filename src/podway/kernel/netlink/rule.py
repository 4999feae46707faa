"""Policy routing rules. Numbers from linux/fib_rules.h."""

from __future__ import annotations

import struct

from podway.kernel.netlink import wire
from podway.model.objects import Rule

NEWRULE, DELRULE, GETRULE = 32, 33, 34
HEADER = struct.Struct(
    "=BBBBBxxBI"
)  # struct fib_rule_hdr: family, dst_len, src_len, tos, table, action, flags
DST, SRC, IIFNAME, PRIORITY, FWMARK, TABLE, FWMASK, PROTOCOL = 1, 2, 3, 6, 10, 15, 16, 21
TO_TABLE = 1  # FR_ACT_TO_TBL
FAMILIES = {4: 2, 6: 10}


def _encode(rule: Rule, kind: int, flags: int) -> bytes:
    parts: list[bytes] = []
    lengths = {DST: 0, SRC: 0}
    for selector, attribute in ((rule.dst, DST), (rule.src, SRC)):
        if selector:
            prefix, _, length = selector.partition("/")
            lengths[attribute] = int(length)
            parts.append(wire.attribute(attribute, wire.ip_bytes(prefix)))
    parts += [wire.u32(PRIORITY, rule.priority), wire.u32(TABLE, rule.table)]
    parts.append(wire.u8(PROTOCOL, rule.protocol))
    if rule.iif:
        parts.append(wire.text(IIFNAME, rule.iif))
    if rule.fwmark or rule.fwmask:
        parts += [wire.u32(FWMARK, rule.fwmark), wire.u32(FWMASK, rule.fwmask or 0xFFFFFFFF)]
    table = rule.table if rule.table < 256 else 252
    head = HEADER.pack(FAMILIES[rule.family], lengths[DST], lengths[SRC], 0, table, TO_TABLE, 0)
    return wire.message(kind, flags, head + b"".join(parts))


def encode(rule: Rule) -> bytes:
    """RTM_NEWRULE; EEXIST when the very same rule stands."""
    return _encode(rule, NEWRULE, wire.CREATE | wire.EXCL)


def encode_delete(rule: Rule) -> bytes:
    """RTM_DELRULE of exactly this rule."""
    return _encode(rule, DELRULE, 0)


def encode_dump(family: int) -> bytes:
    """A request for the rules of AF ``family``."""
    return wire.message(GETRULE, 0, HEADER.pack(family, 0, 0, 0, 0, 0, 0))


def _number(found: wire.Attributes, kind: int) -> int:
    return int(wire.U32.unpack(found[kind])[0]) if kind in found else 0


def decode(payload: bytes) -> Rule | None:
    """The rule of a message; None when it isn't a look-up in a table."""
    family, dst_length, src_length, _, table, action, _ = HEADER.unpack_from(payload)
    if action != TO_TABLE or family not in FAMILIES.values():
        return None
    found = wire.attributes(payload, HEADER.size)
    mark = _number(found, FWMARK)
    return Rule(
        family=4 if family == 2 else 6,
        priority=_number(found, PRIORITY),
        table=_number(found, TABLE) or table,
        src=f"{wire.ip_text(found[SRC])}/{src_length}" if SRC in found else "",
        dst=f"{wire.ip_text(found[DST])}/{dst_length}" if DST in found else "",
        iif=wire.string(found.get(IIFNAME, b"")),
        fwmark=mark,
        fwmask=_number(found, FWMASK) if mark else 0,
        protocol=found.get(PROTOCOL, b"\0")[0],
    )

"""Neighbours, proxied addresses, forwarding entries. Numbers from linux/neighbour.h."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from podway.kernel.netlink import wire
from podway.model.objects import Fdb, Neighbour

NEWNEIGH, DELNEIGH, GETNEIGH = 28, 29, 30
NDMSG = struct.Struct("=BxxxiHBB")  # struct ndmsg: family, index, state, flags, type
DST, LLADDR, IFINDEX = 1, 2, 8
PERMANENT, NOARP = 0x80, 0x40  # NUD_*
REACHABLE, STALE, FAILED = 0x02, 0x04, 0x20
SELF, MASTER, PROXY = 0x02, 0x04, 0x08  # NTF_*
BRIDGE = 7  # AF_BRIDGE


def encode(entry: Neighbour, index: int) -> bytes:
    """RTM_NEWNEIGH that makes or replaces."""
    family = wire.family(entry.address)
    parts = [wire.attribute(DST, wire.ip_bytes(entry.address))]
    if entry.proxy:
        head = NDMSG.pack(family, index, 0, PROXY, 0)
    else:
        head = NDMSG.pack(family, index, PERMANENT, 0, 0)
        parts.append(wire.attribute(LLADDR, wire.mac_bytes(entry.mac)))
    return wire.message(NEWNEIGH, wire.CREATE | wire.REPLACE, head + b"".join(parts))


def encode_delete(entry: Neighbour, index: int) -> bytes:
    """RTM_DELNEIGH."""
    head = NDMSG.pack(wire.family(entry.address), index, 0, PROXY if entry.proxy else 0, 0)
    return wire.message(DELNEIGH, 0, head + wire.attribute(DST, wire.ip_bytes(entry.address)))


def _fdb(entry: Fdb, index: int, kind: int, flags: int) -> bytes:
    # a VXLAN device keeps its own table, a bridge's ports are in the bridge's
    where = SELF if entry.dst else MASTER
    head = NDMSG.pack(BRIDGE, index, PERMANENT | NOARP, where, 0)
    parts = wire.attribute(LLADDR, wire.mac_bytes(entry.mac))
    if entry.dst:
        parts += wire.attribute(DST, wire.ip_bytes(entry.dst))
    return wire.message(kind, flags, head + parts)


def encode_fdb(entry: Fdb, index: int) -> bytes:
    """RTM_NEWNEIGH of AF_BRIDGE that makes or replaces."""
    return _fdb(entry, index, NEWNEIGH, wire.CREATE | wire.REPLACE)


def encode_fdb_delete(entry: Fdb, index: int) -> bytes:
    """RTM_DELNEIGH of AF_BRIDGE."""
    return _fdb(entry, index, DELNEIGH, 0)


def encode_dump(family: int, proxy: bool = False, index: int = 0) -> bytes:
    """A request for the entries of AF ``family``, of one link or (0) all; proxied ones are a table apart."""
    if family == BRIDGE:
        return wire.message(GETNEIGH, 0, NDMSG.pack(family, index, 0, 0, 0))
    of_link = wire.u32(IFINDEX, index) if index else b""
    return wire.message(GETNEIGH, 0, NDMSG.pack(family, 0, 0, PROXY if proxy else 0, 0) + of_link)


def is_permanent(payload: bytes) -> bool:
    """Whether a message's entry is one that was set, not learned, and still stands."""
    _, _, state, flags, _ = NDMSG.unpack_from(payload)
    return bool(state & PERMANENT or flags & PROXY)


def has_failed(payload: bytes) -> bool:
    """Whether a message tells that nobody answered."""
    return bool(NDMSG.unpack_from(payload)[2] & FAILED)


def decode(payload: bytes, name_of: Mapping[int, str]) -> Neighbour | Fdb | None:
    """The entry of a message, whatever its state; None for unknown links."""
    family, index, _, flags, _ = NDMSG.unpack_from(payload)
    found = wire.attributes(payload, NDMSG.size)
    link = name_of.get(index)
    if link is None:
        return None
    if family == BRIDGE:
        if LLADDR not in found:
            return None
        dst = wire.ip_text(found[DST]) if DST in found else ""
        return Fdb(link=link, mac=wire.mac_text(found[LLADDR]), dst=dst)
    if DST not in found:
        return None
    address = wire.ip_text(found[DST])
    if flags & PROXY:
        return Neighbour(link=link, address=address, proxy=True)
    return Neighbour(link=link, address=address, mac=wire.mac_text(found.get(LLADDR, b"")))

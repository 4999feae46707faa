"""Addresses. Numbers from linux/if_addr.h."""

from __future__ import annotations

import struct

from podway.kernel.netlink import wire
from podway.model.objects import Address

NEWADDR, DELADDR, GETADDR = 20, 21, 22
IFADDR = struct.Struct("=BBBBI")  # struct ifaddrmsg: family, prefixlen, flags, scope, index
ADDRESS, LOCAL, BROADCAST, FLAGS = 1, 2, 4, 8
SCOPE_LINK = 253  # RT_SCOPE_LINK, linux/rtnetlink.h
LINK_LOCAL = bytes((169, 254))
F_NODAD, F_NOPREFIXROUTE = 0x02, 0x200
F_TENTATIVE = 0x40 | 0x08  # IFA_F_TENTATIVE, IFA_F_DADFAILED
F_PASSING = 0x01 | 0x08 | 0x20  # IFA_F_TEMPORARY, IFA_F_DADFAILED, IFA_F_DEPRECATED


def _split(address: str) -> tuple[bytes, int]:
    ip, _, length = address.partition("/")
    return wire.ip_bytes(ip), int(length)


def encode(address: Address, index: int) -> bytes:
    """RTM_NEWADDR; an address that stands already is left, with its flags brought up to date."""
    ip, length = _split(address.address)
    flags = (F_NODAD if address.nodad else 0) | (F_NOPREFIXROUTE if address.noprefixroute else 0)
    parts = [wire.attribute(LOCAL, ip), wire.attribute(ADDRESS, ip)]
    if len(ip) == 4 and length < 31:
        host = (1 << (32 - length)) - 1
        broadcast = (int.from_bytes(ip, "big") | host).to_bytes(4, "big")
        parts.append(wire.attribute(BROADCAST, broadcast))
    if flags:
        parts.append(wire.u32(FLAGS, flags))
    # one of no use beyond its link is no source of what leaves by another, nor by a route (RFC 3927)
    scope = SCOPE_LINK if len(ip) == 4 and ip.startswith(LINK_LOCAL) else 0
    head = IFADDR.pack(wire.family(address.address), length, flags & 0xFF, scope, index)
    return wire.message(NEWADDR, wire.CREATE | wire.REPLACE, head + b"".join(parts))


def encode_delete(address: Address, index: int) -> bytes:
    """RTM_DELADDR."""
    ip, length = _split(address.address)
    head = IFADDR.pack(wire.family(address.address), length, 0, 0, index)
    return wire.message(DELADDR, 0, head + wire.attribute(LOCAL, ip))


def encode_dump(index: int = 0) -> bytes:
    """A request for all addresses of both families, of one link or (0) of all."""
    return wire.message(GETADDR, 0, IFADDR.pack(0, 0, 0, 0, index))


def decode(payload: bytes, name_of: dict[int, str]) -> Address | None:
    """The address of a message; None when its link is unknown."""
    _, length, flags, _, index = IFADDR.unpack_from(payload)
    found = wire.attributes(payload, IFADDR.size)
    ip = found.get(LOCAL) or found.get(ADDRESS)
    link = name_of.get(index)
    if ip is None or link is None:
        return None
    if FLAGS in found:
        flags = wire.U32.unpack(found[FLAGS])[0]
    return Address(
        link=link,
        address=f"{wire.ip_text(ip)}/{length}",
        nodad=bool(flags & F_NODAD),
        noprefixroute=bool(flags & F_NOPREFIXROUTE),
        passing=True if len(ip) == 16 and flags & F_PASSING else None,
        tentative=True if len(ip) == 16 and flags & F_TENTATIVE else None,
    )

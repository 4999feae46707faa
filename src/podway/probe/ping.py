"""Echo requests (RFC 792, RFC 4443), which a living kernel answers whatever runs or hangs above it. Pure."""

from __future__ import annotations

import struct

_HEAD = struct.Struct("!BBHHH")  # type, code, checksum, identifier, sequence number
REQUEST = {4: 8, 6: 128}
REPLY = {4: 0, 6: 129}


def request(family: int, identifier: int, number: int) -> bytes:
    """An ICMP message for a raw socket; the kernel itself writes ICMPv6's checksum."""
    empty = _HEAD.pack(REQUEST[family], 0, 0, identifier, number)
    return _HEAD.pack(REQUEST[family], 0, _checksum(empty) if family == 4 else 0, identifier, number)


def is_reply(family: int, received: bytes, identifier: int) -> bool:
    """Whether what a raw socket received answers ``request``; IPv4's comes with its IP header."""
    start = (received[0] & 0xF) * 4 if family == 4 and received else 0
    if len(received) < start + _HEAD.size:
        return False
    kind, _, _, told, _ = _HEAD.unpack_from(received, start)
    return (kind, told) == (REPLY[family], identifier)


def _checksum(data: bytes) -> int:
    """RFC 1071."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF

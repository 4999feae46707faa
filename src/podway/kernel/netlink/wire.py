"""Netlink's framing: headers, attributes, and small conversions. Pure; numbers from linux/netlink.h."""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
ATTRIBUTE = struct.Struct("=HH")  # struct nlattr: length, type
U16 = struct.Struct("=H")
U32 = struct.Struct("=I")
I32 = struct.Struct("=i")
U64 = struct.Struct("=Q")

REQUEST, ACK, DUMP = 0x1, 0x4, 0x300
REPLACE, EXCL, CREATE, APPEND = 0x100, 0x200, 0x400, 0x800
DUMP_INTR = 0x10
CAPPED, ACK_TLVS = 0x100, 0x200  # of an error message
ERROR, DONE = 2, 3  # NLMSG_ERROR, NLMSG_DONE

NESTED = 0x8000  # NLA_F_NESTED
TYPE_MASK = 0x3FFF

Attributes = dict[int, bytes]


class Message(NamedTuple):
    """One message: nlmsghdr's fields and what follows it."""

    type: int
    flags: int
    sequence: int
    portid: int
    payload: bytes


def attribute(kind: int, data: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    length = len(data) + 4
    return ATTRIBUTE.pack(length, kind) + data + b"\0" * (-length & 3)


def nested(kind: int, *parts: bytes) -> bytes:
    """An attribute that holds attributes."""
    data = b"".join(parts)
    return ATTRIBUTE.pack(len(data) + 4, kind | NESTED) + data


def u8(kind: int, value: int) -> bytes:
    """An attribute with one byte."""
    return ATTRIBUTE.pack(5, kind) + bytes((value, 0, 0, 0))


def u32(kind: int, value: int) -> bytes:
    """An attribute with four bytes in host order."""
    return ATTRIBUTE.pack(8, kind) + U32.pack(value)


def text(kind: int, value: str) -> bytes:
    """An attribute with a zero-terminated string."""
    return attribute(kind, value.encode() + b"\0")


def message(kind: int, flags: int, payload: bytes) -> bytes:
    """A message with sequence 0 and port 0: the socket fills in the sequence."""
    return HEADER.pack(16 + len(payload), kind, flags | REQUEST, 0, 0) + payload


def messages(data: bytes) -> Iterator[Message]:
    """Split a datagram. A cut-off tail ends the iteration."""
    at, end = 0, len(data)
    while at + 16 <= end:
        length, kind, flags, sequence, portid = HEADER.unpack_from(data, at)
        if length < 16 or at + length > end:
            return
        yield Message(kind, flags, sequence, portid, data[at + 16 : at + length])
        at += (length + 3) & ~3


def attributes(data: bytes, at: int = 0) -> Attributes:
    """Type → data of each attribute from offset ``at``; of a repeated type the last."""
    found: Attributes = {}
    end = len(data)
    while at + 4 <= end:
        length, kind = ATTRIBUTE.unpack_from(data, at)
        if length < 4 or at + length > end:
            break
        found[kind & TYPE_MASK] = data[at + 4 : at + length]
        at += (length + 3) & ~3
    return found


def string(data: bytes) -> str:
    """A zero-terminated string; bytes that are no UTF-8 are kept as surrogates."""
    return data.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def mac_bytes(mac: str) -> bytes:
    """Six bytes of "02:00:…"."""
    return bytes.fromhex(mac.replace(":", ""))


def mac_text(data: bytes) -> str:
    """ "02:00:…" of the bytes."""
    return data.hex(":")


@lru_cache(maxsize=65536)
def ip_bytes(address: str) -> bytes:
    """Four or sixteen bytes of an address without prefix. Raises OSError when it is none."""
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def ip_text(data: bytes) -> str:
    """The canonical text of four or sixteen bytes."""
    if len(data) == 4:
        return socket.inet_ntop(socket.AF_INET, data)
    text = socket.inet_ntop(socket.AF_INET6, data)
    # the C library writes the last four bytes of a mapped address as IPv4
    return str(ipaddress.IPv6Address(data)) if "." in text else text


def family(address: str) -> int:
    """AF_INET or AF_INET6 of an address or prefix."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET

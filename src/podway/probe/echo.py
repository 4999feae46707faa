"""The echo that agents ask of each other: one UDP datagram there, one back, never larger. Pure.

Layout, network byte order: "pwe" and the version 1; kind; length of the sender's name; size of this
datagram; wished size of the answer (0: as large as the question); nonce; CRC-32 (zlib's) of the whole
with this field zero; the sender's name; then a pattern as padding. Sizes are of the UDP payload, so that
``payload_for`` an MTU makes a packet of exactly that MTU. The CRC finds what a wrong checksum offload let
through: a damaged question is answered as such.
"""

from __future__ import annotations

import struct
import zlib
from enum import IntEnum

import msgspec

#: UDP port of every node's echo unless the agents are told another; the same on all nodes
PORT = 9178

_HEAD = struct.Struct("!4sBBHHQI")
MAGIC = b"pwe\x01"  # the last byte is the version
_CRC_AT = _HEAD.size - 4
_BLANK = bytes(4)
_PATTERN = bytes(range(256)) * 257
MAX_NAME = 63  # of an RFC 1123 label, which node names are
#: bytes of the smallest datagram, whoever sends it: an answer always fits into the question's size
LEAST = _HEAD.size + MAX_NAME
#: bytes of the IP and UDP headers around a datagram (RFC 791 without options, RFC 8200, RFC 768)
HEADERS = {4: 20 + 8, 6: 40 + 8}


class Kind(IntEnum):
    """``DAMAGED`` answers a question that came, but not as it was sent.

    ``UNCHECKED`` is a question in a datagram without a UDP checksum, whose answer has none either: it
    passes where a broken offload makes wrong ones."""

    QUESTION = 1
    ANSWER = 2
    DAMAGED = 3
    UNCHECKED = 4


_KINDS = {int(kind): kind for kind in Kind}
QUESTIONS = (Kind.QUESTION, Kind.UNCHECKED)


class Echo(msgspec.Struct, frozen=True, kw_only=True):
    """One datagram. ``intact`` False: it isn't what was sent, and perhaps not for us."""

    kind: Kind
    nonce: int
    sender: str
    size: int = 0  # of the UDP payload; 0 when encoding: ``LEAST``
    answer_size: int = 0
    intact: bool = True


def payload_for(mtu: int, family: int) -> int:
    """The size of a datagram whose IP packet is exactly ``mtu`` bytes."""
    return mtu - HEADERS[family]


def encode(echo: Echo) -> bytes:
    """The datagram, padded to ``size``. Raises ValueError for a size that no datagram has."""
    name = echo.sender.encode()[:MAX_NAME]
    size = echo.size or LEAST
    if not LEAST <= size <= 0xFFFF - HEADERS[4]:
        raise ValueError(f"an echo has {LEAST} to {0xFFFF - HEADERS[4]} bytes, not {size}")
    head = _HEAD.pack(MAGIC, echo.kind, len(name), size, echo.answer_size, echo.nonce, 0)
    data = bytearray(head + name + _PATTERN[: size - len(head) - len(name)])
    struct.pack_into("!I", data, _CRC_AT, zlib.crc32(data))
    return bytes(data)


def decode(data: bytes) -> Echo | None:
    """The echo of a datagram; None for what is none, or of a kind that this version doesn't know."""
    if len(data) < LEAST or not data.startswith(MAGIC):
        return None
    _, kind, length, size, answer_size, nonce, crc = _HEAD.unpack_from(data)
    if kind not in _KINDS:
        return None
    found = zlib.crc32(memoryview(data)[_HEAD.size :], zlib.crc32(_BLANK, zlib.crc32(data[:_CRC_AT])))
    return Echo(
        kind=_KINDS[kind],
        nonce=nonce,
        sender=data[_HEAD.size : _HEAD.size + length].decode(errors="replace"),
        size=len(data),
        answer_size=answer_size,
        intact=size == len(data) and found == crc,
    )


def answer(question: Echo, name: str) -> bytes | None:
    """What node ``name`` answers, never larger than the question; None for what is no question."""
    if question.kind not in QUESTIONS:
        return None
    if not question.intact:
        return encode(Echo(kind=Kind.DAMAGED, nonce=question.nonce, sender=name))
    size = max(LEAST, min(question.answer_size or question.size, question.size))
    return encode(Echo(kind=Kind.ANSWER, nonce=question.nonce, sender=name, size=size))

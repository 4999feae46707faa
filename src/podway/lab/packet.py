"""Bytes of the probes: payloads that name their probe, ICMP messages, and what ICMP errors quote. Pure."""

from __future__ import annotations

import ipaddress
import struct

PAYLOAD = struct.Struct("!2s4scI")  # "PW", the run, question or answer, the probe
QUESTION, ANSWER = b"Q", b"A"
MAGIC = b"PW"
ICMP = struct.Struct("!BBHHH")  # type, code, checksum, identifier, sequence: RFC 792, RFC 4443
ECHO = {4: 8, 6: 128}
ECHO_REPLY = {4: 0, 6: 129}

#: (family, type, code) → words; RFC 792 and RFC 4443 section 3
ERRORS = {
    (4, 3, 0): "network unreachable",
    (4, 3, 1): "host unreachable",
    (4, 3, 3): "port unreachable",
    (4, 3, 4): "too big for a link on the way",
    (4, 3, 9): "network prohibited",
    (4, 3, 10): "host prohibited",
    (4, 3, 13): "prohibited by a filter",
    (4, 11, 0): "went in circles",
    (6, 1, 0): "no route",
    (6, 1, 1): "prohibited by a filter",
    (6, 1, 3): "address unreachable",
    (6, 1, 4): "port unreachable",
    (6, 1, 5): "source address refused",
    (6, 1, 6): "route rejects it",
    (6, 2, 0): "too big for a link on the way",
    (6, 3, 0): "went in circles",
}


def payload(nonce: bytes, kind: bytes, number: int, size: int = 0) -> bytes:
    """``size`` bytes at least; ``nonce`` is four bytes of this run."""
    return PAYLOAD.pack(MAGIC, nonce, kind, number).ljust(size, b"\0")


def parse(nonce: bytes, data: bytes) -> tuple[bytes, int] | None:
    """(question or answer, probe number) of a payload of this run."""
    if len(data) < PAYLOAD.size:
        return None
    magic, found, kind, number = PAYLOAD.unpack_from(data)
    return (kind, number) if magic == MAGIC and found == nonce else None


def echo(family: int, data: bytes, identifier: int = 0) -> bytes:
    """An ICMP echo request with ``data``; the kernel fills in ICMPv6's checksum.

    ``identifier`` (16 bits) is to conntrack what a source port is."""
    message = ICMP.pack(ECHO[family], 0, 0, identifier, 0) + data
    if family == 6:
        return message
    return message[:2] + struct.pack("!H", checksum(message)) + message[4:]


def checksum(data: bytes) -> int:
    """The Internet checksum, RFC 1071."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data[: len(data) & ~1]))
    total += data[-1] << 8 if len(data) % 2 else 0
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def message(family: int, packet: bytes) -> bytes:
    """The ICMP message of what a raw socket read: IPv4 comes with its header."""
    return packet[(packet[0] & 0xF) * 4 :] if family == 4 else packet


def error(family: int, nonce: bytes, icmp: bytes) -> tuple[int, str] | None:
    """(probe number, words) of an ICMP error that quotes a question of this run."""
    start = icmp.find(MAGIC + nonce, ICMP.size)
    found = parse(nonce, icmp[start:]) if start > 0 else None
    if found is None or found[0] != QUESTION:
        return None
    words = ERRORS.get((family, icmp[0], icmp[1]), f"ICMP type {icmp[0]} code {icmp[1]}")
    return found[1], words


ETHER, UDP = 14, 8  # bytes of an Ethernet and of a UDP header
VXLAN_FLAGS = 0x08000000  # a valid VNI, and nothing reserved: RFC 7348 section 5
IP = {b"\x08\x00": 4, b"\x86\xdd": 6}


def peel(frame: bytes) -> tuple[str, bytes]:
    """(what is around it, the inner frame) of a frame in a VXLAN tunnel; ("", the frame) of another."""
    version = IP.get(frame[12:14])
    if version is None or len(frame) < ETHER + 40:
        return "", frame
    if version == 4:
        start, protocol, ends = ETHER + (frame[ETHER] & 0xF) * 4, frame[ETHER + 9], frame[26:34]
    else:
        start, protocol, ends = ETHER + 40, frame[ETHER + 6], frame[22:54]
    if protocol != 17 or len(frame) < start + UDP + 8 + ETHER:
        return "", frame
    (port,) = struct.unpack_from("!H", frame, start + 2)
    flags, vni = struct.unpack_from("!II", frame, start + UDP)
    inner = frame[start + UDP + 8 :]
    if flags != VXLAN_FLAGS or inner[12:14] not in IP:
        return "", frame
    half = len(ends) // 2
    source, target = (ipaddress.ip_address(one) for one in (ends[:half], ends[half:]))
    return f"VXLAN {vni >> 8}, UDP {port}, {source} → {target}", inner

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
NO_ADDRESSES = bytes(12)  # where a packet has no Ethernet header
IN_IP = {4: b"\x08\x00", 41: b"\x86\xdd"}  # protocol → what is in it: RFC 2003, RFC 2473


def framed(packet: bytes) -> bytes:
    """An IP packet of a link that has no Ethernet header, behind one without addresses."""
    return NO_ADDRESSES + IN_IP[41 if packet[:1] and packet[0] >> 4 == 6 else 4] + packet


def peel(frame: bytes) -> tuple[str, bytes]:
    """(what is around it, the inner frame) of a frame in a tunnel, VXLAN or IP in IP; ("", the frame) of
    another. What comes out of IP in IP has no Ethernet addresses."""
    version = IP.get(frame[12:14])
    if version is None or len(frame) < ETHER + 40:
        return "", frame
    if version == 4:
        start, protocol, ends = ETHER + (frame[ETHER] & 0xF) * 4, frame[ETHER + 9], frame[26:34]
    else:
        start, protocol, ends = ETHER + 40, frame[ETHER + 6], frame[22:54]
    words, inner = _in_ip(protocol, frame[start:]) or _in_udp(protocol, frame[start:]) or ("", frame)
    if not words:
        return "", frame
    half = len(ends) // 2
    source, target = (ipaddress.ip_address(one) for one in (ends[:half], ends[half:]))
    return f"{words}, {source} → {target}", inner


def _in_ip(protocol: int, inner: bytes) -> tuple[str, bytes] | None:
    kind = IN_IP.get(protocol)
    if kind is None or not inner or inner[0] >> 4 != IP[kind]:
        return None
    return f"IP in IP, protocol {protocol}", NO_ADDRESSES + kind + inner


def _in_udp(protocol: int, data: bytes) -> tuple[str, bytes] | None:
    if protocol != 17 or len(data) < UDP + 8 + ETHER:
        return None
    (port,) = struct.unpack_from("!H", data, 2)
    flags, vni = struct.unpack_from("!II", data, UDP)
    inner = data[UDP + 8 :]
    return (f"VXLAN {vni >> 8}, UDP {port}", inner) if flags == VXLAN_FLAGS and inner[12:14] in IP else None

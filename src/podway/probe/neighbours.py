"""Who has an address on a segment: ARP (RFC 826) and IPv6 neighbour discovery (RFC 4861). Codecs only.

Frames are whole Ethernet frames. The kernel's own neighbour table is neither asked nor filled.
"""

from __future__ import annotations

import ipaddress
import socket
import struct

from podway.probe.packets import (
    BROADCAST,
    ETH_ARP,
    ETH_IPV6,
    ETHERNET,
    ethernet,
    internet_checksum,
    mac_bytes,
    mac_text,
)

_ARP = struct.Struct("!HHBBH6s4s6s4s")
_REQUEST, _REPLY = 1, 2
_IPV6 = struct.Struct("!IHBB16s16s")
ICMPV6, SOLICITATION, ADVERTISEMENT = 58, 135, 136
_SOURCE_MAC, _TARGET_MAC = 1, 2  # options, RFC 4861 section 4.6.1
_ONLY_ON_LINK = 255  # hop limit that no router leaves, RFC 4861 section 7.1


def ask(address: str, source: str, mac: str, at: str = "") -> bytes:
    """Who has ``address``? Asked by ``source`` with ``mac`` of everybody, or only of the MAC ``at``."""
    if ":" in address:
        return _solicitation(address, source, mac, at)
    packed = (socket.inet_aton(source), bytes(6), socket.inet_aton(address))
    body = _ARP.pack(1, 0x0800, 6, 4, _REQUEST, mac_bytes(mac), *packed)
    return ethernet(at or BROADCAST, mac, ETH_ARP) + body


def _solicitation(address: str, source: str, mac: str, at: str) -> bytes:
    target = ipaddress.IPv6Address(address).packed
    group = ipaddress.IPv6Address("ff02::1:ff00:0").packed[:13] + target[13:]
    to = target if at else group
    body = struct.pack("!BBHI16sBB6s", SOLICITATION, 0, 0, 0, target, _SOURCE_MAC, 1, mac_bytes(mac))
    own = ipaddress.IPv6Address(source).packed
    checksum = internet_checksum(own + to + struct.pack("!II", len(body), ICMPV6) + body)
    body = body[:2] + struct.pack("!H", checksum) + body[4:]
    head = _IPV6.pack(6 << 28, len(body), ICMPV6, _ONLY_ON_LINK, own, to)
    return ethernet(at or f"33:33:{mac_text(group[12:])}", mac, ETH_IPV6) + head + body


def answered(frame: bytes) -> tuple[str, str] | None:
    """(address, MAC) of an ARP reply or a neighbour advertisement; None for any other frame."""
    if len(frame) < ETHERNET.size:
        return None
    kind = ETHERNET.unpack_from(frame)[2]
    body = frame[ETHERNET.size :]
    if kind == ETH_ARP and len(body) >= _ARP.size:
        _, protocol, _, _, operation, mac, address, _, _ = _ARP.unpack_from(body)
        if (protocol, operation) == (0x0800, _REPLY):
            return socket.inet_ntoa(address), mac_text(mac)
    if kind == ETH_IPV6 and len(body) >= _IPV6.size + 24:
        return _advertised(frame, body)
    return None


def _advertised(frame: bytes, body: bytes) -> tuple[str, str] | None:
    _, length, protocol, hops, _, _ = _IPV6.unpack_from(body)
    if (protocol, hops) != (ICMPV6, _ONLY_ON_LINK) or body[_IPV6.size] != ADVERTISEMENT:
        return None
    message = body[_IPV6.size : _IPV6.size + length]
    mac = frame[6:12]  # an answer to a unicast question may leave the option out
    at = 24
    while at + 8 <= len(message) and message[at + 1]:
        if message[at] == _TARGET_MAC:
            mac = message[at + 2 : at + 8]
        at += 8 * message[at + 1]
    return str(ipaddress.IPv6Address(message[8:24])), mac_text(mac)

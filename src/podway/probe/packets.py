"""Ethernet, IP and UDP headers around what the kernel's own routes would send elsewhere. Codecs only."""

from __future__ import annotations

import ipaddress
import socket
import struct

ETHERNET = struct.Struct("!6s6sH")
ETH_IPV4, ETH_ARP, ETH_IPV6 = 0x0800, 0x0806, 0x86DD  # linux/if_ether.h
BROADCAST = "ff:ff:ff:ff:ff:ff"
UDP = 17
_UDP = struct.Struct("!HHHH")
_IPV4 = struct.Struct("!BBHHHBBH4s4s")
_IPV6 = struct.Struct("!IHBB16s16s")
_DF = 0x4000
_HOPS = 1


def mac_bytes(mac: str) -> bytes:
    """Six bytes of "02:…"."""
    return bytes.fromhex(mac.replace(":", ""))


def mac_text(mac: bytes) -> str:
    """ "02:…", lower case, of as many bytes as there are."""
    return mac.hex(":")


def ethernet(to: str, mac: str, kind: int) -> bytes:
    """The header of a frame from ``mac``."""
    return ETHERNET.pack(mac_bytes(to), mac_bytes(mac), kind)


def internet_checksum(data: bytes) -> int:
    """RFC 1071."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def datagram(to_mac: str, mac: str, source: str, address: str, port: int, payload: bytes) -> bytes:
    """A frame to ``to_mac``, UDP from ``source`` to ``address``, both at ``port``; no router passes it on."""
    own, target = ipaddress.ip_address(source).packed, ipaddress.ip_address(address).packed
    length = _UDP.size + len(payload)
    pseudo = own + target + struct.pack("!II", length, UDP)
    checksum = internet_checksum(pseudo + _UDP.pack(port, port, length, 0) + payload) or 0xFFFF
    body = _UDP.pack(port, port, length, checksum) + payload
    if len(own) == 16:
        head = _IPV6.pack(6 << 28, length, UDP, _HOPS, own, target)
        return ethernet(to_mac, mac, ETH_IPV6) + head + body
    blank = _IPV4.pack(0x45, 0, 20 + length, 0, _DF, _HOPS, UDP, 0, own, target)
    head = blank[:10] + struct.pack("!H", internet_checksum(blank)) + blank[12:]
    return ethernet(to_mac, mac, ETH_IPV4) + head + body


def udp_content(frame: bytes) -> tuple[tuple[str, int], str, bytes] | None:
    """((source, port), destination, payload) of a UDP frame without IP options; None for any other frame."""
    if len(frame) < ETHERNET.size:
        return None
    kind = ETHERNET.unpack_from(frame)[2]
    at = ETHERNET.size + (_IPV4.size if kind == ETH_IPV4 else _IPV6.size)
    protocol_at = ETHERNET.size + (9 if kind == ETH_IPV4 else 6)
    if kind not in (ETH_IPV4, ETH_IPV6) or len(frame) < at + _UDP.size or frame[protocol_at] != UDP:
        return None
    port, _, length, _ = _UDP.unpack_from(frame, at)
    size = 4 if kind == ETH_IPV4 else 16
    family = socket.AF_INET if size == 4 else socket.AF_INET6
    source, target = (socket.inet_ntop(family, frame[at - n * size : at - (n - 1) * size]) for n in (2, 1))
    return (source, port), target, frame[at + _UDP.size : at + length]

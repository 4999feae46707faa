"""DHCP of IPv4 as a client speaks it: messages and their datagrams as bytes, and back. Pure.

RFC 2131 (messages), RFC 2132 (options), RFC 3396 (an option in parts), RFC 3442 (classless routes).
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator, Mapping

import msgspec

DISCOVER, OFFER, REQUEST, ACK, NAK, RELEASE = 1, 2, 3, 5, 6, 7
MASK, ROUTER, HOST_NAME, STATIC_ROUTES, REQUESTED, LEASE_TIME, TYPE, SERVER = 1, 3, 12, 33, 50, 51, 53, 54
PARAMETERS, T1, T2, VENDOR_CLASS, CLIENT_ID, USER_CLASS, CLASSLESS_ROUTES = 55, 58, 59, 60, 61, 77, 121
_PAD, _END = 0, 255
CLIENT_PORT, SERVER_PORT = 68, 67
NOBODY, EVERYBODY = "0.0.0.0", "255.255.255.255"
USUAL_LEASE = 3600  # seconds, where a server doesn't say

_HEAD = struct.Struct("!BBBBIHH4s4s4s4s16s192x4s")  # op … chaddr, sname and file, the magic cookie
_MAGIC = b"\x63\x82\x53\x63"
_REQUEST, _REPLY, _ETHERNET, _BROADCAST = 1, 2, 1, 0x8000
_SMALLEST = 300  # bytes: some relays drop what is shorter than BOOTP's
_IP = struct.Struct("!BBHHHBBH4s4s")
_UDP = struct.Struct("!HHHH")
_PROTOCOL_UDP = 17


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A message. ``client`` is an address that is in use, ``yours`` the one that is offered or granted.
    ``broadcast``: the answer is to be sent to all."""

    type: int
    xid: int
    mac: str
    client: str = NOBODY
    yours: str = NOBODY
    broadcast: bool = False
    options: dict[int, bytes] = {}

    def number(self, option: int, default: int) -> int:
        """An option of four bytes."""
        data = self.options.get(option, b"")
        return int.from_bytes(data, "big") if len(data) == 4 else default

    def addresses(self, option: int) -> list[str]:
        """An option of addresses."""
        data = self.options.get(option, b"")
        return [_text(data[at : at + 4]) for at in range(0, len(data) - 3, 4)]


def _text(data: bytes) -> str:
    return str(ipaddress.IPv4Address(data))


def _bytes(address: str) -> bytes:
    return ipaddress.IPv4Address(address).packed


def encode(message: Message) -> bytes:
    """A client's message."""
    mac = bytes.fromhex(message.mac.replace(":", ""))
    addresses = (_bytes(message.client), bytes(4), bytes(4), bytes(4))
    flags = _BROADCAST if message.broadcast else 0
    head = _HEAD.pack(_REQUEST, _ETHERNET, len(mac), 0, message.xid, 0, flags, *addresses, mac, _MAGIC)
    options = {TYPE: bytes([message.type]), **message.options}
    parts = [bytes([option, len(data)]) + data for option, data in options.items() if data]
    return (head + b"".join(parts) + bytes([_END])).ljust(_SMALLEST, b"\0")


def decode(data: bytes) -> Message | None:
    """A server's message; None for anything else."""
    if len(data) < _HEAD.size:
        return None
    op, _, length, _, xid, _, _, client, yours, _, _, mac, magic = _HEAD.unpack_from(data)
    options = _options(data[_HEAD.size :])
    if op != _REPLY or magic != _MAGIC or length != 6 or len(options.get(TYPE, b"")) != 1:
        return None
    return Message(
        type=options[TYPE][0],
        xid=xid,
        mac=mac[:6].hex(":"),
        client=_text(client),
        yours=_text(yours),
        options=options,
    )


def _options(data: bytes) -> dict[int, bytes]:
    """Those that are whole; one that comes in parts is put together."""
    found: dict[int, bytes] = {}
    at = 0
    while at < len(data) and data[at] != _END:
        if data[at] == _PAD:
            at += 1
            continue
        if at + 1 >= len(data) or at + 2 + data[at + 1] > len(data):
            break
        found[data[at]] = found.get(data[at], b"") + data[at + 2 : at + 2 + data[at + 1]]
        at += 2 + data[at + 1]
    return found


def datagram(payload: bytes, source: str, target: str) -> bytes:
    """The IPv4 packet of a client's message."""
    addresses = _bytes(source) + _bytes(target)
    length = _UDP.size + len(payload)
    pseudo = addresses + struct.pack("!HH", _PROTOCOL_UDP, length)
    udp = _UDP.pack(CLIENT_PORT, SERVER_PORT, length, 0) + payload
    udp = udp[:6] + struct.pack("!H", _checksum(pseudo + udp) or 0xFFFF) + udp[8:]
    head = _IP.pack(0x45, 0, _IP.size + length, 0, 0, 64, _PROTOCOL_UDP, 0, addresses[:4], addresses[4:])
    head = head[:10] + struct.pack("!H", _checksum(head)) + head[12:]
    return head + udp


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    total = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) & 1)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return int(~total & 0xFFFF)


def payload(packet: bytes) -> bytes:
    """What an IPv4 packet brings to a client's port, b"" for any other. Checksums of veths are never made."""
    head = int(packet[0] & 0xF) * 4 if packet else 0
    if head < _IP.size or len(packet) < head + _UDP.size or packet[9] != _PROTOCOL_UDP:
        return b""
    _, port, length, _ = _UDP.unpack_from(packet, head)
    return packet[head + _UDP.size : head + length] if port == CLIENT_PORT else b""


def routes(message: Message) -> Iterator[tuple[str, str]]:
    """(prefix, gateway, "" on the link) pairs. Classless routes are instead of the others (RFC 3442)."""
    if message.options.get(CLASSLESS_ROUTES):
        yield from _classless(message.options[CLASSLESS_ROUTES])
        return
    pairs = message.addresses(STATIC_ROUTES)
    for target, gateway in zip(pairs[::2], pairs[1::2], strict=False):
        yield str(ipaddress.ip_network(f"{target}/{_class_of(target)}", strict=False)), gateway
    for gateway in message.addresses(ROUTER)[:1]:
        yield "0.0.0.0/0", gateway


def _class_of(address: str) -> int:
    """The prefix length that an address's class had."""
    first = int(address.partition(".")[0])
    return 8 if first < 128 else 16 if first < 192 else 24 if first < 224 else 32


def _classless(data: bytes) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(data):
        length, size = data[at], (data[at] + 7) // 8
        if length > 32 or at + 1 + size + 4 > len(data):
            return
        target = data[at + 1 : at + 1 + size].ljust(4, b"\0")
        gateway = _text(data[at + 1 + size : at + 5 + size])
        yield (
            str(ipaddress.ip_network(f"{_text(target)}/{length}", strict=False)),
            gateway if gateway != NOBODY else "",
        )
        at += 5 + size


def prefix(message: Message) -> str:
    """The address that is granted, with its prefix length. Raises ValueError when that is missing or odd."""
    mask = message.addresses(MASK)
    if not mask:
        raise ValueError("the server tells no subnet mask")
    return str(ipaddress.ip_interface(f"{message.yours}/{mask[0]}"))


def terms(message: Message) -> tuple[float, float, float]:
    """Seconds until a lease is to be renewed, to be rebound, and ends (RFC 2131, section 4.4.5); one without
    an end has the largest number, which is a century."""
    whole = message.number(LEASE_TIME, USUAL_LEASE)
    rebind = min(message.number(T2, whole * 7 // 8), whole)
    return float(min(message.number(T1, whole // 2), rebind)), float(rebind), float(whole)


def client_id(container: str, network: str, ifname: str) -> bytes:
    """As the reference plugin has it, so that a server gives the same address after the switch."""
    return b"\0" + f"{container}/{network}/{ifname}".encode()[:254]


def options_of(asked: Mapping[int, bytes], **more: bytes) -> dict[int, bytes]:
    """``asked`` and what one message needs besides: ``requested``, ``server``."""
    extra = {REQUESTED: more.get("requested", b""), SERVER: more.get("server", b"")}
    return {**asked, **{option: data for option, data in extra.items() if data}}

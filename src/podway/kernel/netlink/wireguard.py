"""WireGuard devices over generic netlink. Numbers from linux/wireguard.h and linux/genetlink.h.

A device is set by one message for each change. A dump spreads over several: a peer whose prefixes don't fit
goes on in the next, told again by its key. Pure: the family's number is the caller's to find.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from podway.kernel.netlink import wire
from podway.model.wireguard import WgAllowed, WgDevice, WgPeer

GENL = struct.Struct("=BBxx")  # struct genlmsghdr: command, version
CONTROL, GETFAMILY, FAMILY_ID, FAMILY_NAME = 16, 3, 1, 2  # GENL_ID_CTRL, CTRL_*
NAME, VERSION = "wireguard", 1
GET_DEVICE, SET_DEVICE = 0, 1

IFINDEX, IFNAME, PRIVATE_KEY, PUBLIC_KEY, LISTEN_PORT, PEERS = 1, 2, 3, 4, 6, 8  # WGDEVICE_A_*
PEER_KEY, PEER_FLAGS, ENDPOINT, KEEPALIVE, HANDSHAKE, ALLOWED = 1, 3, 4, 5, 6, 9  # WGPEER_A_*
FAMILY, ADDRESS, MASK = 1, 2, 3  # WGALLOWEDIP_A_*
REMOVE_ME = 1  # WGPEER_F_REMOVE_ME

SECONDS = struct.Struct("=qq")  # struct __kernel_timespec
NO_KEY = bytes(32)  # as a private key: the device has none any more


class Device(NamedTuple):
    """A device as the kernel has it. ``met``: public key → when its last handshake was, in seconds since
    1970; peers that never had one are not in it."""

    device: WgDevice
    peers: tuple[WgPeer, ...]
    allowed: tuple[WgAllowed, ...]
    met: dict[str, int]


def key_bytes(key: str) -> bytes:
    """The 32 bytes of a key's text."""
    return base64.b64decode(key)


def key_text(key: bytes) -> str:
    """A key as ``wg`` prints it."""
    return base64.b64encode(key).decode()


def encode_family() -> bytes:
    """A request for the family's number."""
    return wire.message(CONTROL, 0, GENL.pack(GETFAMILY, 1) + wire.text(FAMILY_NAME, NAME))


def decode_family(payload: bytes) -> int:
    """The number of an answer to it."""
    return int(wire.U16.unpack(wire.attributes(payload, GENL.size)[FAMILY_ID])[0])


def encode_dump(family: int, index: int) -> bytes:
    """A request for all of one device."""
    return wire.message(family, 0, GENL.pack(GET_DEVICE, VERSION) + wire.u32(IFINDEX, index))


def _set(family: int, index: int, *parts: bytes) -> bytes:
    head = GENL.pack(SET_DEVICE, VERSION) + wire.u32(IFINDEX, index)
    return wire.message(family, 0, head + b"".join(parts))


def _u16(kind: int, value: int) -> bytes:
    return wire.attribute(kind, wire.U16.pack(value))


def encode_device(family: int, index: int, private: bytes, port: int) -> bytes:
    """Give a device its key and port."""
    return _set(family, index, wire.attribute(PRIVATE_KEY, private), _u16(LISTEN_PORT, port))


def encode_device_delete(family: int, index: int) -> bytes:
    """Take a device's key away: it neither sends nor takes anything any more."""
    return _set(family, index, wire.attribute(PRIVATE_KEY, NO_KEY))


def _peer(key: bytes, *parts: bytes) -> bytes:
    return wire.nested(0, wire.attribute(PEER_KEY, key), *parts)


def encode_peer(family: int, index: int, peer: WgPeer) -> bytes:
    """Make or change a peer; its prefixes stay."""
    parts = (
        wire.attribute(ENDPOINT, socket_address(peer.endpoint, peer.port)),
        _u16(KEEPALIVE, peer.keepalive),
    )
    return _set(family, index, wire.nested(PEERS, _peer(key_bytes(peer.public_key), *parts)))


def encode_peer_delete(family: int, index: int, peer: WgPeer) -> bytes:
    """Remove a peer, and its prefixes with it."""
    gone = _peer(key_bytes(peer.public_key), wire.u32(PEER_FLAGS, REMOVE_ME))
    return _set(family, index, wire.nested(PEERS, gone))


def _allowed(prefix: str) -> bytes:
    address, _, length = prefix.partition("/")
    parts = (
        _u16(FAMILY, wire.family(address)),
        wire.attribute(ADDRESS, wire.ip_bytes(address)),
        wire.u8(MASK, int(length)),
    )
    return wire.nested(ALLOWED, wire.nested(0, *parts))


def encode_allowed(family: int, index: int, allowed: WgAllowed) -> bytes:
    """Make a prefix a peer's; whoever had it loses it."""
    return _set(family, index, wire.nested(PEERS, _peer(key_bytes(allowed.peer), _allowed(allowed.prefix))))


def encode_allowed_delete(family: int, index: int, allowed: WgAllowed, nobody: bytes) -> bytes:
    """Take a prefix from its peer: kernels before 6.16 can't say so, but a peer ``nobody`` (32 bytes that are
    no peer's key) can be given it, and removed with it in the same message."""
    taken = _peer(nobody, _allowed(allowed.prefix)), _peer(nobody, wire.u32(PEER_FLAGS, REMOVE_ME))
    return _set(family, index, wire.nested(PEERS, *taken))


def socket_address(address: str, port: int) -> bytes:
    """struct sockaddr_in or sockaddr_in6."""
    data, family = wire.ip_bytes(address), wire.family(address)
    head = wire.U16.pack(family) + port.to_bytes(2, "big")
    return head + data + bytes(8) if len(data) == 4 else head + bytes(4) + data + bytes(4)


def _endpoint(data: bytes) -> tuple[str, int]:
    if len(data) < 8:
        return "", 0
    address = data[4:8] if len(data) == 16 else data[8:24]
    return wire.ip_text(address), int.from_bytes(data[2:4], "big")


def _items(data: bytes) -> Iterator[wire.Attributes]:
    """The attributes of each member of a list: all members may have one type."""
    at = 0
    while at + 4 <= len(data):
        length, _ = wire.ATTRIBUTE.unpack_from(data, at)
        if length < 4 or at + length > len(data):
            return
        yield wire.attributes(data[at + 4 : at + length])
        at += (length + 3) & ~3


def decode(payloads: Iterable[bytes]) -> Device | None:
    """The device of a dump's messages; None of none."""
    first: WgDevice | None = None
    peers: dict[str, WgPeer] = {}
    allowed: list[WgAllowed] = []
    met: dict[str, int] = {}
    for payload in payloads:
        found = wire.attributes(payload, GENL.size)
        if first is None:
            port = wire.U16.unpack(found[LISTEN_PORT])[0] if LISTEN_PORT in found else 0
            public = key_text(found[PUBLIC_KEY]) if PUBLIC_KEY in found else ""
            first = WgDevice(link=wire.string(found.get(IFNAME, b"")), public_key=public, port=port)
        for one in _items(found.get(PEERS, b"")):
            key = key_text(one[PEER_KEY])
            if key not in peers:  # what goes on from an earlier message has its prefixes alone
                peers[key] = _decode_peer(first.link, key, one)
                at, _ = SECONDS.unpack(one[HANDSHAKE]) if HANDSHAKE in one else (0, 0)
                met |= {key: at} if at else {}
            allowed += (_decode_allowed(first.link, key, part) for part in _items(one.get(ALLOWED, b"")))
    return Device(first, tuple(peers.values()), tuple(allowed), met) if first is not None else None


def _decode_peer(link: str, key: str, found: wire.Attributes) -> WgPeer:
    address, port = _endpoint(found.get(ENDPOINT, b""))
    keepalive = wire.U16.unpack(found[KEEPALIVE])[0] if KEEPALIVE in found else 0
    return WgPeer(link=link, public_key=key, endpoint=address, port=port, keepalive=keepalive)


def _decode_allowed(link: str, peer: str, found: wire.Attributes) -> WgAllowed:
    return WgAllowed(link=link, prefix=f"{wire.ip_text(found[ADDRESS])}/{found[MASK][0]}", peer=peer)

"""Forgetting conntrack entries of a published UDP port: a flow keeps its old way as long as its entry lives.

TCP needs none of it: a new connection is a new entry. Numbers from linux/netfilter/nfnetlink_conntrack.h.
"""

from __future__ import annotations

import socket

from podway.kernel.netlink import wire
from podway.kernel.netlink.socket import NetlinkSocket
from podway.kernel.nfnetlink.nftwire import HEADER

SUBSYSTEM = 1 << 8  # NFNL_SUBSYS_CTNETLINK
GET, DELETE = 1, 2
TUPLE_ORIG, ID = 1, 12
TUPLE_IP, TUPLE_PROTO = 1, 2
V4_DST, V6_DST = 2, 4
PROTO_NUM, PROTO_DST_PORT = 1, 3


def forget_udp(address: str, port: int) -> int:
    """Delete the UDP entries first sent to ``address`` ("" = any) and ``port``; how many there were."""
    netlink = NetlinkSocket(12)
    wanted = wire.ip_bytes(address) if address not in ("", "0.0.0.0", "::") else b""
    try:
        doomed = [
            request
            for family in (socket.AF_INET, socket.AF_INET6)
            for message in netlink.dump(wire.message(SUBSYSTEM | GET, 0, HEADER.pack(family, 0, 0)))
            if (request := _deletion(message.payload, wanted, port))
        ]
        netlink.batch(doomed)
        return len(doomed)
    finally:
        netlink.close()


def _deletion(payload: bytes, address: bytes, port: int) -> bytes:
    """The request that deletes this entry if it is one of those, else b""."""
    found = wire.attributes(payload, HEADER.size)
    original = wire.attributes(found[TUPLE_ORIG])
    protocol = wire.attributes(original[TUPLE_PROTO])
    if protocol[PROTO_NUM][0] != socket.IPPROTO_UDP:
        return b""
    if int.from_bytes(protocol.get(PROTO_DST_PORT, b""), "big") != port:
        return b""
    ends = wire.attributes(original[TUPLE_IP])
    if address and address != ends.get(V6_DST if payload[0] == socket.AF_INET6 else V4_DST):
        return b""
    head = HEADER.pack(payload[0], 0, 0)
    parts = wire.attribute(TUPLE_ORIG | wire.NESTED, found[TUPLE_ORIG]) + wire.attribute(ID, found[ID])
    return wire.message(SUBSYSTEM | DELETE, 0, head + parts)

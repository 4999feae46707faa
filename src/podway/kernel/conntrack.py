"""Forgetting conntrack entries of published UDP ports: a flow keeps its old way as long as its entry lives.

TCP needs none of it: a new connection is a new entry. The kernel looks through its whole table for one
port or for many alike, which takes milliseconds: collect, and do it off an answer's path. Numbers from
linux/netfilter/nfnetlink_conntrack.h.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable

from podway.kernel.netlink import wire
from podway.kernel.netlink.socket import NetlinkSocket
from podway.kernel.nfnetlink.nftwire import HEADER

SUBSYSTEM = 1 << 8  # NFNL_SUBSYS_CTNETLINK
GET, DELETE = 1, 2
TUPLE_ORIG, ID = 1, 12
TUPLE_IP, TUPLE_PROTO = 1, 2
V4_DST, V6_DST = 2, 4
PROTO_NUM, PROTO_DST_PORT = 1, 3


def forget_udp(netlink: NetlinkSocket, ports: Iterable[tuple[str, int]]) -> int:
    """Delete the UDP entries first sent to any (address or "" for all, port); how many there were.

    ``netlink``: a socket of NETLINK_NETFILTER (12)."""
    wanted: dict[int, set[bytes]] = {}
    for address, port in ports:
        every = address in ("", "0.0.0.0", "::")
        wanted.setdefault(port, set()).add(b"" if every else wire.ip_bytes(address))
    found = netlink.dump(wire.message(SUBSYSTEM | GET, 0, HEADER.pack(socket.AF_UNSPEC, 0, 0)))
    doomed = [request for message in found if (request := _deletion(message.payload, wanted))]
    netlink.batch(doomed)
    return len(doomed)


def _deletion(payload: bytes, wanted: dict[int, set[bytes]]) -> bytes:
    """The request that deletes this entry if it is one of those, else b""."""
    found = wire.attributes(payload, HEADER.size)
    original = wire.attributes(found[TUPLE_ORIG])
    protocol = wire.attributes(original[TUPLE_PROTO])
    if protocol[PROTO_NUM][0] != socket.IPPROTO_UDP:
        return b""
    addresses = wanted.get(int.from_bytes(protocol.get(PROTO_DST_PORT, b""), "big"))
    if addresses is None:
        return b""
    ends = wire.attributes(original[TUPLE_IP])
    if not addresses & {b"", ends.get(V6_DST if payload[0] == socket.AF_INET6 else V4_DST)}:
        return b""
    head = HEADER.pack(payload[0], 0, 0)
    parts = wire.attribute(TUPLE_ORIG | wire.NESTED, found[TUPLE_ORIG]) + wire.attribute(ID, found[ID])
    return wire.message(SUBSYSTEM | DELETE, 0, head + parts)

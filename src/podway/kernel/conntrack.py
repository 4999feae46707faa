"""Forgetting conntrack entries of published UDP ports: a flow keeps its old way as long as its entry lives.

TCP needs none of it: a new connection is a new entry. The kernel goes through its whole table, which takes
milliseconds even where it is empty: collect, and do it off an answer's path. Where it can it picks the
entries itself; a dump keeps softirqs off its processor meanwhile, and every RCU wait from its end (seen: pods
that were just starting took half as long again). Numbers from linux/netfilter/nfnetlink_conntrack.h and
net/netfilter/nf_internals.h.
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterator

from podway.kernel.netlink import wire
from podway.kernel.netlink.socket import NetlinkSocket
from podway.kernel.nfnetlink.nftwire import HEADER

SUBSYSTEM = 1 << 8  # NFNL_SUBSYS_CTNETLINK
GET, DELETE = 1, 2
TUPLE_ORIG, ID, FILTER = 1, 12, 25
TUPLE_IP, TUPLE_PROTO = 1, 2
V4_DST, V6_DST = 2, 4
PROTO_NUM, PROTO_DST_PORT = 1, 3
ORIG_FLAGS, REPLY_FLAGS = 1, 2  # of CTA_FILTER: which parts of a tuple must agree
BY_ADDRESS, BY_PROTOCOL, BY_PORT = 1 << 1, 1 << 3, 1 << 5

FEW = 8  # requests to pick entries: for each the kernel goes through its table, for a dump once

Ports = Collection[tuple[str, int]]


def forget_udp(netlink: NetlinkSocket, ports: Ports) -> None:
    """Delete the UDP entries first sent to any (address or "" for all, port).

    ``netlink``: a socket of NETLINK_NETFILTER (12)."""
    picking = [request for address, port in ports for request in _picking(address, port)]
    # an older kernel (6.1) deletes single entries or all, and refuses a filter (EINVAL)
    if len(picking) > FEW or netlink.batch(picking):
        look_through(netlink, ports)


def _picking(address: str, port: int) -> Iterator[bytes]:
    """Requests to delete what was first sent there, one for each family."""
    number = wire.attribute(PROTO_NUM, bytes((socket.IPPROTO_UDP,)))
    tuple_ = wire.nested(TUPLE_PROTO, number, wire.attribute(PROTO_DST_PORT, port.to_bytes(2, "big")))
    flags = BY_PROTOCOL | BY_PORT
    families: list[int] = [socket.AF_INET, socket.AF_INET6]
    if not _is_every(address):
        families = [wire.family(address)]
        at = V6_DST if families == [socket.AF_INET6] else V4_DST
        tuple_ = wire.nested(TUPLE_IP, wire.attribute(at, wire.ip_bytes(address))) + tuple_
        flags |= BY_ADDRESS
    agree = wire.nested(FILTER, wire.u32(ORIG_FLAGS, flags), wire.u32(REPLY_FLAGS, 0))
    for family in families:
        head = HEADER.pack(family, 0, 0)
        yield wire.message(SUBSYSTEM | DELETE, 0, head + wire.nested(TUPLE_ORIG, tuple_) + agree)


def _is_every(address: str) -> bool:
    return address in ("", "0.0.0.0", "::")


def look_through(netlink: NetlinkSocket, ports: Ports) -> None:
    """The same by a dump of all entries."""
    wanted: dict[int, set[bytes]] = {}
    for address, port in ports:
        wanted.setdefault(port, set()).add(b"" if _is_every(address) else wire.ip_bytes(address))
    found = netlink.dump(wire.message(SUBSYSTEM | GET, 0, HEADER.pack(socket.AF_UNSPEC, 0, 0)))
    netlink.batch([request for message in found if (request := _deletion(message.payload, wanted))])


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

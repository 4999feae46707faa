"""Routes: the hot path of a large cluster. Numbers from linux/rtnetlink.h."""

from __future__ import annotations

import struct
import sys
from collections.abc import Mapping

import msgspec

from podway.kernel.netlink import wire
from podway.model.objects import LOCAL_TABLE, Route

NEWROUTE, DELROUTE, GETROUTE = 24, 25, 26
RTMSG = struct.Struct("=BBBBBBBBI")  # family, dst_len, src_len, tos, table, protocol, scope, type, flags
DST, OIF, GATEWAY, PRIORITY, PREFSRC, METRICS, MULTIPATH, TABLE, VIA = 1, 4, 5, 6, 7, 8, 9, 15, 18
ENCAP_TYPE, ENCAP = 21, 22
ENCAP_IP6, IP6_DST, IP6_HOPLIMIT = 4, 2, 4  # LWTUNNEL_ENCAP_IP6, LWTUNNEL_IP6_*
HOPS = 64  # of the outer header: what a pod sends with few must not end on the way between two nodes
NEXT_HOP = struct.Struct("=HBBI")  # rtnexthop: length, flags, hops, ifindex
RTAX_MTU, RTAX_ADVMSS = 2, 8
ONLINK = 4  # RTNH_F_ONLINK
CLONED = 0x200  # RTM_F_CLONED
TYPES = {"unicast": 1, "local": 2, "broadcast": 3, "anycast": 4, "multicast": 5}
TYPES |= {"blackhole": 6, "unreachable": 7, "prohibit": 8, "throw": 9}
SCOPES = {"global": 0, "site": 200, "link": 253, "host": 254, "nowhere": 255}
_TYPE_NAMES = {number: name for name, number in TYPES.items()}
_SCOPE_NAMES = {number: name for name, number in SCOPES.items()}
AF_INET6 = 10
TABLE_AT = 4  # where in struct rtmsg the table is

_FOUR = struct.Struct("=HH4s")
_NUMBER = struct.Struct("=HHI")
_SIXTEEN = struct.Struct("=HH16s")


def _ip(kind: int, data: bytes) -> bytes:
    return _FOUR.pack(8, kind, data) if len(data) == 4 else _SIXTEEN.pack(20, kind, data)


def _encode(route: Route, index: Mapping[str, int], kind: int, flags: int) -> bytes:
    prefix, _, length = route.dst.partition("/")
    dst = wire.ip_bytes(prefix)
    six = len(dst) == 16
    head = RTMSG.pack(
        AF_INET6 if six else 2,
        int(length),
        0,
        0,
        route.table if route.table < 256 else 252,  # RT_TABLE_COMPAT
        route.protocol,
        0 if six else SCOPES[route.scope],
        TYPES[route.type],
        ONLINK if route.onlink else 0,
    )
    parts = [head]
    if length != "0":
        parts.append(_ip(DST, dst))
    parts.append(_NUMBER.pack(8, TABLE, route.table))
    if route.via:
        parts.append(_ip(GATEWAY, wire.ip_bytes(route.via)))
    if route.dev:
        parts.append(_NUMBER.pack(8, OIF, index[route.dev]))
    if route.metric:
        parts.append(_NUMBER.pack(8, PRIORITY, route.metric))
    if route.src:
        parts.append(_ip(PREFSRC, wire.ip_bytes(route.src)))
    metrics = [(RTAX_MTU, route.mtu), (RTAX_ADVMSS, route.advmss)] if route.mtu or route.advmss else []
    if metrics:
        parts.append(wire.nested(METRICS, *(wire.u32(kind, value) for kind, value in metrics if value)))
    if route.outer:
        around = wire.attribute(IP6_DST, wire.ip_bytes(route.outer)) + wire.u8(IP6_HOPLIMIT, HOPS)
        sort = ENCAP_IP6.to_bytes(2, sys.byteorder)
        parts += [wire.attribute(ENCAP_TYPE, sort), wire.nested(ENCAP, around)]
    return wire.message(kind, flags, b"".join(parts))


def encode(route: Route, index: Mapping[str, int]) -> bytes:
    """RTM_NEWROUTE that makes or replaces. Raises KeyError for an unknown device.

    REPLACE also where nothing stands: a plain CREATE in IPv6 appends a multipath sibling.
    """
    return _encode(route, index, NEWROUTE, wire.CREATE | wire.REPLACE)


def encode_append(route: Route, index: Mapping[str, int]) -> bytes:
    """RTM_NEWROUTE of an IPv4 route behind those that lead to the same prefix. The kernel says EEXIST where
    just this one stands. Raises KeyError for an unknown device."""
    return _encode(route, index, NEWROUTE, wire.CREATE | wire.APPEND)


def is_append(request: bytes) -> bool:
    """Whether a request is one of ``encode_append``."""
    _, kind, flags, _, _ = wire.HEADER.unpack_from(request)
    return kind == NEWROUTE and bool(flags & wire.APPEND)


def is_delete(request: bytes) -> bool:
    """Whether a request is one of ``encode_delete``."""
    return bool(wire.HEADER.unpack_from(request)[1] == DELROUTE)


def encode_delete(route: Route, index: Mapping[str, int]) -> bytes:
    """RTM_DELROUTE of exactly this route: its next hop and protocol must match too."""
    known = route if route.dev in index else _without_device(route)
    return _encode(known, index, DELROUTE, 0)


def _without_device(route: Route) -> Route:
    return msgspec.structs.replace(route, dev="")


def encode_dump(family: int, protocol: int = 0) -> bytes:
    """A request for the routes of AF ``family``; the kernel filters by protocol (0: all)."""
    return wire.message(GETROUTE, 0, RTMSG.pack(family, 0, 0, 0, 0, protocol, 0, 0, 0))


def is_local(payload: bytes) -> bool:
    """Whether a message is about the table in which the kernel keeps the node's own addresses."""
    return payload[TABLE_AT] == LOCAL_TABLE


def _next_hop(found: wire.Attributes) -> str:
    if VIA in found:  # of the other family (RFC 8950): struct rtvia, a family and an address
        return wire.ip_text(found[VIA][2:])
    return wire.ip_text(found[GATEWAY]) if GATEWAY in found else ""


def decode(payload: bytes, name_of: Mapping[int, str]) -> Route | None:
    """The route of a message, None for a cache entry; of several next hops (BIRD makes such) the first."""
    family, length, _, _, table, protocol, scope, kind, flags = RTMSG.unpack_from(payload)
    if kind not in _TYPE_NAMES or flags & CLONED:
        return None
    found = wire.attributes(payload, RTMSG.size)
    device = wire.U32.unpack(found[OIF])[0] if OIF in found else 0
    if MULTIPATH in found:
        end, _, _, device = NEXT_HOP.unpack_from(found[MULTIPATH])
        found |= wire.attributes(found[MULTIPATH][:end], NEXT_HOP.size)
    six = family == AF_INET6
    dst = wire.ip_text(found[DST]) if DST in found else ("::" if six else "0.0.0.0")
    metrics = wire.attributes(found.get(METRICS, b""))
    number = _TYPE_NAMES[kind]
    # an IPv6 blackhole shows the loopback device, which nobody asked for
    dev = name_of.get(device, "") if device and number in ("unicast", "local") else ""
    return Route(
        dst=f"{dst}/{length}",
        dev=dev,
        via=_next_hop(found),
        table=wire.U32.unpack(found[TABLE])[0] if TABLE in found else table,
        metric=wire.U32.unpack(found[PRIORITY])[0] if PRIORITY in found else 0,
        type=number,
        scope="global" if six else _SCOPE_NAMES.get(scope, "global"),
        protocol=protocol,
        src=wire.ip_text(found[PREFSRC]) if PREFSRC in found else "",
        onlink=bool(flags & ONLINK),
        mtu=wire.U32.unpack(metrics[RTAX_MTU])[0] if RTAX_MTU in metrics else 0,
        advmss=wire.U32.unpack(metrics[RTAX_ADVMSS])[0] if RTAX_ADVMSS in metrics else 0,
        outer=_outer(found),
    )


def _outer(found: wire.Attributes) -> str:
    """Where a route's encapsulation sends to, "" for none or one that Podway doesn't make."""
    if int.from_bytes(found.get(ENCAP_TYPE, b""), sys.byteorder) != ENCAP_IP6:
        return ""
    around = wire.attributes(found.get(ENCAP, b""))
    return wire.ip_text(around[IP6_DST]) if IP6_DST in around else ""

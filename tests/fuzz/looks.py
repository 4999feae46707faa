"""What a network namespace holds, in the kernel's own messages: cheap enough to look after every call.

They are compared as they are, but for what counts or is timed; nothing of Podway's reads them, which might
overlook what it also forgets to put back. A link's message has its settings below /proc/sys/net too.
"""

from __future__ import annotations

import functools
import os
import socket
import struct
from collections.abc import Collection
from pathlib import Path

from podway.kernel import namespaces, sysctl
from podway.kernel.netlink import address, link, route, rule, traffic, wire
from podway.kernel.netlink.socket import NetlinkSocket

State = dict[str, list[str]]  # kind → lines

_FAMILIES = (socket.AF_INET, socket.AF_INET6)
_LINK_OF = struct.Struct("=4xi")  # the ifindex, in all headers but those of routes and rules
_OIF = 4  # RTA_OIF
_SENDING = 0x40 | 0x10000 | 0x20000  # IFF_RUNNING, LOWER_UP, DORMANT: the link watch's, in its own time
_AF_INET_CONF, _AF_INET6_CONF = 1, 2  # IFLA_INET_CONF, IFLA_INET6_CONF
#: kind → (size of the header, attributes that count or are timed, requests)
_DUMPS = {
    # IFLA_QDISC, STATS, OPERSTATE, STATS64, AF_SPEC (see _settings), CARRIER, CARRIER_*
    "link": (16, {6, 7, 16, 23, 26, 33, 35, 47, 48}, [link.encode_dump()]),
    "address": (8, {6}, [address.encode_dump()]),  # IFA_CACHEINFO
    "route": (
        12,
        {12},
        [route.encode_dump(one) for one in _FAMILIES],
    ),  # RTA_CACHEINFO
    "rule": (12, set(), [rule.encode_dump(one) for one in _FAMILIES]),
    "qdisc": (20, {4, 5, 7}, [traffic.encode_dump(traffic.GETQDISC)]),  # TCA_STATS, XSTATS, STATS2
}
#: settings of the whole namespace that a call may touch; all are compared at the end
_WATCHED = (
    *("net/core/somaxconn", "net/ipv4/ip_forward", "net/ipv4/conf/all/arp_notify"),
    *("net/ipv6/conf/all/forwarding", "net/ipv6/conf/all/disable_ipv6", "net/ipv6/conf/default/disable_ipv6"),
)


class Look:
    """A socket that stays in ``namespace``, an open descriptor. Calling it looks."""

    def __init__(self, namespace: int) -> None:
        self._namespace = namespace
        self._socket = NetlinkSocket(0, namespace)

    def close(self) -> None:
        """Let go of the namespace."""
        self._socket.close()

    def __call__(self, without: Collection[int] = ()) -> State:
        """All links, their settings, addresses, routes, rules, qdiscs; not of links of these indexes."""
        found: State = {"setting": self._watched()}
        for kind, (size, passing, requests) in _DUMPS.items():
            messages = [one.payload for request in requests for one in self._socket.dump(request)]
            kept = [one for one in messages if _index(kind, size, one) not in without]
            found[kind] = sorted(_line(one, size, frozenset(passing)) for one in kept)
            if kind == "link":
                found["setting"] += sorted(_settings(one) for one in kept)
        return found

    def _watched(self) -> list[str]:
        with namespaces.entered(self._namespace):
            return [f"{path} {sysctl.read(path)}" for path in _WATCHED]

    def everything(self) -> dict[str, str]:
        """Path → value of all settings of the namespace."""
        with namespaces.entered(self._namespace):
            found = {str(path): _read(path) for path in Path("/proc/sys/net").rglob("*") if path.is_file()}
        return {path: value for path, value in found.items() if "/stable_secret" not in path}


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        return os.strerror(error.errno or 0)


def _index(kind: str, size: int, payload: bytes) -> int:
    if kind == "rule":
        return 0
    if kind == "route":
        return int(wire.I32.unpack(wire.attributes(payload, size).get(_OIF, b"\0\0\0\0"))[0])
    return int(_LINK_OF.unpack_from(payload)[0])


@functools.lru_cache(maxsize=4096)  # from call to call hardly a message differs
def _line(payload: bytes, size: int, passing: frozenset[int]) -> str:
    header = bytearray(payload[:size])
    if size == link.IFINFO.size:
        wire.U32.pack_into(header, 8, wire.U32.unpack_from(header, 8)[0] & ~_SENDING)
    found = wire.attributes(payload, size)
    words = [f"{kind}={found[kind]!r}" for kind in sorted(found) if kind not in passing]
    return " ".join((header.hex(), *words))


@functools.lru_cache(maxsize=4096)
def _settings(payload: bytes) -> str:
    """What is below conf/LINK for IPv4 and IPv6, in the kernel's order (linux/ip.h, linux/ipv6.h)."""
    found = wire.attributes(payload, link.IFINFO.size)
    families = wire.attributes(found.get(link.AF_SPEC, b""))
    four, six = (wire.attributes(families.get(one, b"")) for one in _FAMILIES)
    values = [_numbers(four.get(_AF_INET_CONF, b"")), _numbers(six.get(_AF_INET6_CONF, b""))]
    return f"{wire.string(found[link.IFNAME])} {values} {six.get(link.INET6_ADDR_GEN_MODE)!r}"


def _numbers(data: bytes) -> list[int]:
    return [wire.I32.unpack_from(data, at)[0] for at in range(0, len(data), 4)]

"""The sockets of the probe process in one namespace: receivers that answer, and senders."""

from __future__ import annotations

import os
import socket
import struct

from podway.kernel import namespaces
from podway.lab.place import NAMESPACES

PORT = 7747
BACKLOG = 512
IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, PMTUDISC_PROBE = 10, 23, 3  # linux/in.h, linux/in6.h
ICMPV6_FILTER = 1  # linux/icmpv6.h; a set bit blocks the type
PASSED_TYPES = (1, 2, 3, 128, 129)
BUFFER = 1 << 20
FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}


class Station:
    """One namespace. ``udp`` (answers), ``asking``, ``icmp`` and ``listeners`` are by family (4, 6).

    Questions leave from a port that is new in every run: from a known one, conntrack would take them for
    an earlier run's, or for the answers of the other direction, and show neither rules nor translations.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.udp: dict[int, socket.socket] = {}
        self.asking: dict[int, socket.socket] = {}
        self.icmp: dict[int, socket.socket] = {}
        self.listeners: dict[int, socket.socket] = {}
        self._namespace = namespaces.open_namespace(str(NAMESPACES / name))
        with namespaces.entered(self._namespace):
            for family in FAMILY:
                self.udp[family] = _udp(family, PORT)
                self.asking[family] = _udp(family, 0)
                self.icmp[family] = _icmp(family)
                self.listeners[family] = _listener(family)

    def connector(self, family: int) -> socket.socket:
        """A TCP socket in this namespace; closing it leaves nothing waiting."""
        with namespaces.entered(self._namespace):
            made = socket.socket(FAMILY[family], socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return made

    def close(self) -> None:
        """Let go of all sockets and of the namespace."""
        for one in (*self.udp.values(), *self.asking.values(), *self.icmp.values(), *self.listeners.values()):
            one.close()
        os.close(self._namespace)


def _bound(family: int, kind: socket.SocketKind, port: int) -> socket.socket:
    made = socket.socket(FAMILY[family], kind | socket.SOCK_NONBLOCK)
    if family == 6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("::" if family == 6 else "0.0.0.0", port))
    return made


def _udp(family: int, port: int) -> socket.socket:
    made = _bound(family, socket.SOCK_DGRAM, port)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
    # Never fragmented, whatever was learned of the path: a packet arrives whole or not at all.
    if family == 4:
        made.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_PROBE)
    else:
        made.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_PROBE)
    return made


def _listener(family: int) -> socket.socket:
    made = _bound(family, socket.SOCK_STREAM, PORT)
    made.listen(BACKLOG)
    return made


def _icmp(family: int) -> socket.socket:
    protocol = socket.IPPROTO_ICMP if family == 4 else socket.IPPROTO_ICMPV6
    made = socket.socket(FAMILY[family], socket.SOCK_RAW | socket.SOCK_NONBLOCK, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
    if family == 6:
        blocked = [0xFFFFFFFF] * 8
        for number in PASSED_TYPES:
            blocked[number // 32] &= ~(1 << (number % 32))
        made.setsockopt(socket.IPPROTO_ICMPV6, ICMPV6_FILTER, struct.pack("=8I", *blocked))
    return made

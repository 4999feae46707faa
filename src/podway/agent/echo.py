"""The agent's end of the echo: answers every question from the address that was asked.

One socket a family, on all addresses: the node's own, its blocks' gateways, its tunnels' ends. An answer
carries DF, so that one that doesn't fit is lost rather than cut into pieces.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

from podway.probe import echo
from podway.probe.echo import Echo, Kind

# linux/in.h, linux/in6.h: what Python's socket module has no names for
IP_PKTINFO, IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, PMTUDISC_PROBE = 8, 10, 23, 3
IP_TRANSPARENT, IPV6_TRANSPARENT = 19, 75  # to send from an address in a block that no link has
SO_NO_CHECK, UDP_NO_CHECK6_TX, UDP_NO_CHECK6_RX = 11, 101, 102  # asm-generic/socket.h, linux/udp.h
PKTINFO4 = struct.Struct("=I4s4s")  # struct in_pktinfo: ifindex, local address, destination in the header
PKTINFO6 = struct.Struct("=16sI")  # struct in6_pktinfo: address, ifindex
BATCH = 64  # datagrams before the loop gets a turn
ANSWERS_A_SECOND = 5000  # whoever asks more often is not answered

#: called with what isn't a question: the echo, who sent it, and the address that it came to
Heard = Callable[[Echo, str, str], None]


class EchoService:
    """Answers on UDP ``port``; ``heard`` gets the answers to what others of this agent ask from it."""

    def __init__(self, node: str, port: int, heard: Heard | None = None) -> None:
        self._node = node
        self._port = port
        self._heard = heard
        self._sockets: dict[int, socket.socket] = {}
        self._second, self._left = 0, 0
        self._log = logging.getLogger("podway")

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Listen. A port that is taken is logged: peers can't prove a path to this node without it."""
        self._loop = loop
        for family in (socket.AF_INET, socket.AF_INET6):
            try:
                made = self._open(family)
            except OSError as error:
                # no IPv6 on this machine is no trouble
                if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                    self._log.error("no echo", extra={"port": self._port, "why": str(error)})
                continue
            self._sockets[family] = made
            loop.add_reader(made.fileno(), self._read, family)

    def stop(self) -> None:
        """Let go of the port."""
        for one in self._sockets.values():
            self._loop.remove_reader(one.fileno())
            one.close()
        self._sockets.clear()

    def ask(self, question: Echo, address: str, source: str = "") -> bool:
        """Send a question to a node's address by the kernel's own routes; whether it could be sent."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return self._send(family, echo.encode(question), address, source)

    def reply(self, question: Echo, asker: tuple[str, int], asked: str) -> None:
        """Answer a question that came to ``asked``, though that is no address of this machine."""
        data = echo.answer(question, self._node) if self._may_answer() else None
        if data is not None:
            self._send(socket.AF_INET6 if ":" in asker[0] else socket.AF_INET, data, asker, asked)

    def _open(self, family: int) -> socket.socket:
        made = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            if family == socket.AF_INET6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                made.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
                made.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_PROBE)
                made.setsockopt(socket.IPPROTO_UDP, UDP_NO_CHECK6_RX, 1)
            else:
                made.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
                made.setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, 1)
                made.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_PROBE)
            made.bind(("", self._port))
        except BaseException:
            made.close()
            raise
        return made

    def _read(self, family: int) -> None:
        for _ in range(BATCH):
            try:
                data, control, _, sender = self._sockets[family].recvmsg(0xFFFF, 256)
            except OSError:
                return  # nothing more, or an ICMP error about an earlier answer
            found = echo.decode(data)
            asked = _asked(family, control)
            if found is None or not asked:
                continue
            if found.kind not in echo.QUESTIONS:
                if self._heard is not None:
                    self._heard(found, sender[0], asked)
            elif self._may_answer() and (data_back := echo.answer(found, self._node)) is not None:
                self._send(family, data_back, sender, asked, found.kind is Kind.UNCHECKED)

    def _may_answer(self) -> bool:
        second = int(self._loop.time())
        if second != self._second:
            self._second, self._left = second, ANSWERS_A_SECOND
        self._left -= 1
        return self._left >= 0

    def _send(
        self, family: int, data: bytes, to: str | tuple[Any, ...], source: str, unchecked: bool = False
    ) -> bool:
        address = (to, self._port) if isinstance(to, str) else to
        try:
            with _without_checksum(self._sockets[family]) if unchecked else contextlib.nullcontext():
                self._sockets[family].sendmsg([data], _from(family, source) if source else [], 0, address)
        except (OSError, KeyError):
            return False  # no route, too large, a full queue: for the asker all of that is no answer
        return True


def set_unchecked(sending: socket.socket, unchecked: bool) -> None:
    """Whether what a UDP socket sends from now on has no checksum."""
    six = sending.family == socket.AF_INET6
    option = (socket.IPPROTO_UDP, UDP_NO_CHECK6_TX) if six else (socket.SOL_SOCKET, SO_NO_CHECK)
    sending.setsockopt(*option, int(unchecked))


@contextlib.contextmanager
def _without_checksum(sending: socket.socket) -> Iterator[None]:
    set_unchecked(sending, True)
    try:
        yield
    finally:
        set_unchecked(sending, False)


def _asked(family: int, control: list[tuple[int, int, bytes]]) -> str:
    """The unicast address that a datagram came to, or ""."""
    for level, kind, data in control:
        if (level, kind) == (socket.IPPROTO_IP, IP_PKTINFO):
            _, local, header = PKTINFO4.unpack_from(data)
            return socket.inet_ntop(family, header) if local == header else ""
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
            return "" if data[0] == 0xFF else socket.inet_ntop(family, data[:16])  # RFC 4291: multicast
    return ""


def _from(family: int, source: str) -> list[tuple[int, int, bytes]]:
    packed = socket.inet_pton(family, source)
    if family == socket.AF_INET6:
        return [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, PKTINFO6.pack(packed, 0))]
    return [(socket.IPPROTO_IP, IP_PKTINFO, PKTINFO4.pack(0, packed, bytes(4)))]

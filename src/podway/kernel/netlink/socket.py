"""One netlink socket: batches, dumps, and the kernel's own words in errors.

Netlink works inside ``sendmsg``: when it returns, all of a batch has been carried out. Only the last
message of a chunk asks for an acknowledgement; errors of the others still come back, by sequence
number. Chunks are small enough that their errors fit the receive buffer.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import nullcontext

from podway.kernel import namespaces
from podway.kernel.netlink import neighbour_filter, wire

SOL_NETLINK = 270
ADD_MEMBERSHIP, EXT_ACK, GET_STRICT_CHK = 1, 11, 12  # linux/netlink.h
SO_RCVBUFFORCE = 33
BUFFER = 4 << 20
CHUNK = 2000  # messages: an error takes about 1 KiB of buffer accounting each
DUMP_SIZE = 1 << 17
EXTACK_TEXT = 1  # NLMSGERR_ATTR_MSG
ATTEMPTS = 10


class NetlinkSocket:
    """A socket of ``protocol`` (0 NETLINK_ROUTE, 12 NETLINK_NETFILTER) in ``namespace`` or the thread's."""

    def __init__(self, protocol: int, namespace: int | None = None, groups: Sequence[int] = ()) -> None:
        inside = nullcontext() if namespace is None else namespaces.entered(namespace)
        with inside:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
            for option in (EXT_ACK, GET_STRICT_CHK):
                self._socket.setsockopt(SOL_NETLINK, option, 1)
            self._socket.bind((0, 0))
            for group in groups:
                self._socket.setsockopt(SOL_NETLINK, ADD_MEMBERSHIP, group)
        except BaseException:
            self._socket.close()
            raise
        self.portid: int = self._socket.getsockname()[0]
        self._sequence = 1

    def fileno(self) -> int:
        """For an event loop."""
        return self._socket.fileno()

    def hear_neighbours_of(self, links: Collection[int]) -> None:
        """Let events of neighbours and forwarding entries through for these ifindexes only."""
        neighbour_filter.attach(self._socket, neighbour_filter.program(links))

    def hear_settled_neighbours_of(self, links: Collection[int]) -> None:
        """Let only how the resolution of neighbours on these ifindexes ended through."""
        neighbour_filter.attach(self._socket, neighbour_filter.settled(links))

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()

    def batch(
        self, requests: Sequence[bytes], before: bytes = b"", after: bytes = b""
    ) -> dict[int, tuple[int, str]]:
        """Carry out all, in order. Returns index → (errno, the kernel's words) of those that failed.

        ``before`` and ``after`` are messages around each chunk (nfnetlink's transaction).
        """
        failed: dict[int, tuple[int, str]] = {}
        for start in range(0, len(requests), CHUNK):
            chunk = requests[start : start + CHUNK]
            first, last, buffer = self._number(chunk)
            self._socket.send(before + buffer + after)
            self._collect(first, last, start, failed)
        return failed

    def _number(self, requests: Sequence[bytes]) -> tuple[int, int, bytearray]:
        """Give sequence numbers, ask for an acknowledgement of the last: (first, last, bytes)."""
        first = self._sequence
        self._sequence = (first + len(requests)) & 0x7FFFFFFF or 1
        last = first + len(requests) - 1
        buffer = bytearray()
        pack = wire.U32.pack_into
        for number, request in enumerate(requests, first):
            at = len(buffer)
            buffer += request
            buffer += b"\0" * (-len(request) & 3)
            pack(buffer, at + 8, number & 0xFFFFFFFF)
            if number == last:
                flags = wire.U16.unpack_from(buffer, at + 6)[0]
                wire.U16.pack_into(buffer, at + 6, flags | wire.ACK)
        return first, last, buffer

    def _collect(self, first: int, last: int, start: int, failed: dict[int, tuple[int, str]]) -> None:
        while True:
            for message in wire.messages(self._receive()):
                if message.type != wire.ERROR or not first <= message.sequence <= last:
                    continue
                number, words = error_of(message)
                if number:
                    failed[start + message.sequence - first] = (number, words)
                if message.sequence == last:
                    return

    def _receive(self) -> bytes:
        return self._socket.recv(DUMP_SIZE)

    def dump(self, request: bytes, keep: Callable[[wire.Message], bool] | None = None) -> list[wire.Message]:
        """All answers to a dump, or those to ``keep``: of a hundred thousand routes few may be of interest.

        Raises OSError with the kernel's words; EINTR when it keeps changing."""
        for _ in range(ATTEMPTS):
            found, interrupted = self._dump_once(request, keep)
            if not interrupted:
                return found
        raise InterruptedError(errno.EINTR, "the kernel's tables changed during every dump")

    def _dump_once(
        self, request: bytes, keep: Callable[[wire.Message], bool] | None
    ) -> tuple[list[wire.Message], bool]:
        sequence = self._send(request, wire.DUMP)
        found: list[wire.Message] = []
        interrupted = False
        while True:
            for message in wire.messages(self._receive()):
                if message.sequence != sequence:
                    continue
                interrupted |= bool(message.flags & wire.DUMP_INTR)
                if message.type == wire.DONE:
                    _raise(wire.I32.unpack_from(message.payload)[0] if len(message.payload) >= 4 else 0)
                    return found, interrupted
                if message.type == wire.ERROR:
                    number, words = error_of(message)
                    raise OSError(number, words)
                if keep is None or keep(message):
                    found.append(message)

    def ask(self, request: bytes) -> wire.Message | None:
        """The one answer to a GET; None when there is no such thing (ENODEV, ENOENT). Raises OSError."""
        sequence = self._send(request, 0)
        while True:
            for message in wire.messages(self._receive()):
                if message.sequence != sequence:
                    continue
                if message.type != wire.ERROR:
                    return message
                number, words = error_of(message)
                if number in (errno.ENODEV, errno.ENOENT, errno.ESRCH):
                    return None
                raise OSError(number, words)

    def _send(self, request: bytes, flags: int) -> int:
        sequence = self._sequence
        self._sequence = (sequence + 1) & 0x7FFFFFFF or 1
        data = bytearray(request)
        old = wire.U16.unpack_from(data, 6)[0]
        wire.U16.pack_into(data, 6, old | flags)
        wire.U32.pack_into(data, 8, sequence)
        self._socket.send(data)
        return sequence

    def pending(self) -> Iterator[wire.Message]:
        """What has arrived, without waiting. Raises OSError ENOBUFS when messages were lost."""
        while True:
            try:
                data = self._socket.recv(DUMP_SIZE, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            yield from wire.messages(data)


def error_of(message: wire.Message) -> tuple[int, str]:
    """(errno, text) of an NLMSG_ERROR; 0 is an acknowledgement. The text has the extended ack's words."""
    number = -wire.I32.unpack_from(message.payload)[0]
    words = ""
    if message.flags & wire.ACK_TLVS:
        at = 4 + 16
        if not message.flags & wire.CAPPED:
            length = wire.U32.unpack_from(message.payload, 4)[0]
            at = 4 + ((length + 3) & ~3)
        words = wire.string(wire.attributes(message.payload, at).get(EXTACK_TEXT, b""))
    if not number:
        return 0, ""
    plain = os.strerror(number)
    return number, f"{plain}: {words}" if words else plain


def _raise(code: int) -> None:
    if code < 0:
        raise OSError(-code, os.strerror(-code))

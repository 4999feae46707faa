"""When the last of many namespaces reaches an address: ICMP echo from raw sockets, answered by the kernel."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from collections.abc import Iterator, Sequence

from bench.host import Host

EVERY = 0.002  # seconds between two requests of one namespace
ECHO_REQUEST, ECHO_REPLY = 8, 0  # RFC 792


def _checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def request(number: int) -> bytes:
    """An echo request without data; its answer carries ``number`` in bytes 24 and 25 of the IP packet."""
    head = struct.pack("!BBHHH", ECHO_REQUEST, 0, 0, number, 1)
    return struct.pack("!BBHHH", ECHO_REQUEST, 0, _checksum(head), number, 1)


@contextlib.contextmanager
def sockets(hosts: Sequence[Host]) -> Iterator[list[socket.socket]]:
    """One raw socket in each namespace."""
    with contextlib.ExitStack() as stack:
        made = []
        for one in hosts:
            with one.entered():
                sock = stack.enter_context(
                    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
                )
            sock.setblocking(False)
            made.append(sock)
        yield made


def last(made: Sequence[socket.socket], address: str, patience: float = 30.0) -> float:
    """When (monotonic seconds) every one of them had been answered by ``address``. Raises RuntimeError."""
    missing = {sock.fileno(): sock for sock in made}
    end = time.monotonic() + patience
    source = socket.inet_aton(address)
    while True:
        for sock in missing.values():
            with contextlib.suppress(OSError):  # no route yet
                sock.sendto(request(sock.fileno() & 0xFFFF), (address, 0))
        ready, _, _ = select.select(list(missing.values()), [], [], EVERY)
        now = time.monotonic()
        for sock in ready:
            with contextlib.suppress(BlockingIOError):
                while True:
                    packet = sock.recv(256)
                    if packet[12:16] == source and packet[20] == ECHO_REPLY:
                        missing.pop(sock.fileno(), None)
        if not missing:
            return now
        if now > end:
            raise RuntimeError(f"{len(missing)} of {len(made)} nodes never reached {address}")

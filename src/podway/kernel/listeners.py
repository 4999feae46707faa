"""Who listens on a port of this network namespace.

Whether anybody does is seen by trying to bind, which costs nothing; who it is, from /proc/net and the
processes' descriptors, which costs the kernel a walk over all its sockets.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator

from podway.model.objects import family_of

TCP_LISTEN = "0A"
UDP_UNCONNECTED = "07"
FILES = {
    "tcp": (("tcp", TCP_LISTEN), ("tcp6", TCP_LISTEN)),
    "udp": (("udp", UDP_UNCONNECTED), ("udp6", UDP_UNCONNECTED)),
}
MAPPED = b"\0" * 10 + b"\xff\xff"


def find(protocol: str, address: str, port: int, keeper: str = "") -> str | None:
    """ "NAME[PID] listens on ADDRESS:PORT" for a socket that a published port would take from; None if free.

    ``address`` "" is every address. SCTP sockets are not looked for. ``keeper``: a container, whose
    supervisor may hold its ports against everybody else (podman's conmon, with it in its command line).
    """
    if _is_free(protocol, address, port):
        return None
    wanted = _canonical(address)
    for file, state in FILES.get(protocol, ()):
        for local, found_port, inode in _sockets(f"/proc/thread-self/net/{file}", state):
            if found_port != port:
                continue
            if wanted is None or local is None or local == wanted:
                shown = (
                    socket.inet_ntop(socket.AF_INET if len(local) == 4 else socket.AF_INET6, local)
                    if local
                    else "*"
                )
                process = _owner(inode)
                if not (keeper and process and keeper in _words(process)):
                    return f"{_title(process)} listens on {shown}:{port}"
    return None


def _is_free(protocol: str, address: str, port: int) -> bool:
    """Whether a socket can be bound there, for certain. A port in other than listening use is not."""
    kind = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}.get(protocol)
    if kind is None:
        return False
    for place in [address] if _canonical(address) else ["0.0.0.0", "::"]:
        six = family_of(place) == 6
        try:
            with socket.socket(socket.AF_INET6 if six else socket.AF_INET, kind) as probe:
                if six:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                if protocol == "tcp":  # else a connection's last minute (TIME_WAIT) would look like use
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((place, port))
        except OSError:
            return False
    return True


def _canonical(address: str) -> bytes | None:
    if address in ("", "0.0.0.0", "::"):
        return None
    return socket.inet_pton(socket.AF_INET6 if family_of(address) == 6 else socket.AF_INET, address)


def _sockets(path: str, state: str) -> Iterator[tuple[bytes | None, int, str]]:
    """(local address or None for any, port, inode) of sockets in ``state``."""
    with contextlib.suppress(OSError), open(path) as file:
        next(file)
        for line in file:
            fields = line.split()
            if fields[3] != state:
                continue
            raw, _, port = fields[1].rpartition(":")
            yield _address(raw), int(port, 16), fields[9]


def _address(raw: str) -> bytes | None:
    """The kernel prints 32-bit words in host order."""
    words = [int(raw[at : at + 8], 16) for at in range(0, len(raw), 8)]
    address = struct.pack(f"={len(words)}I", *words)
    if len(address) == 16 and address.startswith(MAPPED):
        address = address[12:]
    return address if any(address) else None


def _owner(inode: str) -> str:
    """The number of the process that has the socket, "" when none is seen."""
    target = f"socket:[{inode}]"
    for process in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            for fd in os.listdir(f"/proc/{process}/fd"):
                with contextlib.suppress(OSError):
                    if os.readlink(f"/proc/{process}/fd/{fd}") == target:
                        return process
    return ""


def _words(process: str) -> list[str]:
    with contextlib.suppress(OSError), open(f"/proc/{process}/cmdline") as words:
        return words.read().split("\0")
    return []


def _title(process: str) -> str:
    with contextlib.suppress(OSError), open(f"/proc/{process}/comm") as comm:
        return f"{comm.read().strip()}[{process}]"
    return "a process"

"""Sockets on one uplink: frames out as they are, and of what comes in only the answers.

Packet sockets see an answer before the kernel's reverse path filter does: before there is a route to a
peer's block, an answer from it has none either. A socket filter keeps everything else from being copied.
"""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
from collections.abc import Iterator

import msgspec

from podway.probe import echo, neighbours
from podway.probe.echo import Echo
from podway.probe.packets import ETH_ARP, ETH_IPV4, ETH_IPV6, ETHERNET, UDP, udp_content

SO_ATTACH_FILTER = 26  # asm-generic/socket.h
_INSTRUCTION = struct.Struct("=HBBI")  # struct sock_filter: code, jt, jf, k
_PROGRAM = struct.Struct("@HP")  # struct sock_fprog
_HALF, _BYTE, _WORD, _EQUAL, _RETURN = 0x28, 0x30, 0x20, 0x15, 0x06  # linux/bpf_common.h
_LARGEST = 1 << 16  # bytes of a frame that are looked at: questions are as large as the MTU
_BATCH = 256
_MAGIC = int.from_bytes(echo.MAGIC, "big")

Test = tuple[int, int, int]  # load instruction, offset in the frame, value


def _program(*alternatives: tuple[Test, ...]) -> list[tuple[int, int, int, int]]:
    """Instructions that let a frame through for which all tests of one alternative hold."""
    code: list[tuple[int, int, int, int]] = []
    for tests in alternatives:
        for number, (load, at, value) in enumerate(tests):
            code.append((load, 0, 0, at))
            # a failed test goes on after this alternative's acceptance
            code.append((_EQUAL, 0, 2 * (len(tests) - number - 1) + 1, value))
        code.append((_RETURN, 0, 0, _LARGEST))
    return [*code, (_RETURN, 0, 0, 0)]


def _filters(port: int) -> dict[int, list[tuple[int, int, int, int]]]:
    """By protocol of the socket: ARP replies; echoes; echoes and neighbour advertisements."""
    four = ((_BYTE, 14, 0x45), (_BYTE, 23, UDP), (_HALF, 36, port), (_WORD, 42, _MAGIC))
    six = ((_BYTE, 20, UDP), (_HALF, 56, port), (_WORD, 62, _MAGIC))
    advertisement = ((_BYTE, 20, neighbours.ICMPV6), (_BYTE, 54, neighbours.ADVERTISEMENT))
    return {
        ETH_ARP: _program(((_HALF, 20, 2),)),
        ETH_IPV4: _program(four),
        ETH_IPV6: _program(six, advertisement),
    }


class Told(msgspec.Struct, frozen=True):
    """``mac`` answers for ``address``."""

    address: str
    mac: str


class Came(msgspec.Struct, frozen=True):
    """An echo, as it came to ``target``, which need not be an address of this machine."""

    echo: Echo
    source: tuple[str, int]
    target: str


class Segment:
    """The segment behind link ``dev``. Raises OSError when there is no such link, or no right to it."""

    def __init__(self, dev: str, port: int) -> None:
        self.dev = dev
        self._sockets: dict[int, socket.socket] = {}
        try:
            for protocol, program in _filters(port).items():
                self._sockets[protocol] = _open(dev, protocol, program)
        except BaseException:
            self.close()
            raise

    @property
    def mac(self) -> str:
        """The link's own MAC now. Raises OSError when the link has gone."""
        address: bytes = self._sockets[ETH_ARP].getsockname()[4]
        if len(address) != 6:
            raise OSError(errno.ENODEV, "no Ethernet link any more", self.dev)
        return address.hex(":")

    def filenos(self) -> list[int]:
        """Readable when there are answers."""
        return [one.fileno() for one in self._sockets.values()]

    def close(self) -> None:
        """Let go of the sockets."""
        for one in self._sockets.values():
            one.close()

    def send(self, frame: bytes) -> None:
        """Send a whole frame. Raises OSError when the link is down or gone."""
        self._sockets[ETHERNET.unpack_from(frame)[2]].send(frame)

    def read(self, fileno: int) -> Iterator[Told | Came]:
        """What came on one of ``filenos`` since the last call. Never waits."""
        (one,) = (one for one in self._sockets.values() if one.fileno() == fileno)
        for _ in range(_BATCH):
            try:
                frame = one.recv(_LARGEST)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno == errno.ENETDOWN:
                    break  # said once when the link goes down; it comes up again by itself
                raise
            found = _found(frame)
            if found is not None:
                yield found


def _found(frame: bytes) -> Told | Came | None:
    told = neighbours.answered(frame)
    if told is not None:
        return Told(*told)
    content = udp_content(frame)
    came = echo.decode(content[2]) if content is not None else None
    return Came(came, content[0], content[1]) if content is not None and came is not None else None


def _open(dev: str, protocol: int, program: list[tuple[int, int, int, int]]) -> socket.socket:
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    made = socket.socket(socket.AF_PACKET, kind, 0)  # hears nothing before it is bound, filter and all
    try:
        code = b"".join(_INSTRUCTION.pack(*one) for one in program)
        held = ctypes.create_string_buffer(code)
        made.setsockopt(
            socket.SOL_SOCKET, SO_ATTACH_FILTER, _PROGRAM.pack(len(program), ctypes.addressof(held))
        )
        made.bind((dev, protocol))
    except BaseException:
        made.close()
        raise
    return made

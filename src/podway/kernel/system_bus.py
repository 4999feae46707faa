"""Calls of methods on D-Bus's system bus: of its protocol what strings in and a string out need.

Sections are those of the D-Bus Specification 0.43.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
import time
import urllib.parse
from types import TracebackType

DEFAULT = "unix:path=/run/dbus/system_bus_socket"
_CALL, _RETURN, _ERROR = 1, 2, 3  # "Message Types"
_NO_AUTO_START = 2
_PATH, _INTERFACE, _MEMBER, _ERROR_NAME, _REPLY, _DESTINATION, _SIGNATURE = 1, 2, 3, 4, 5, 6, 8
_ORDERS = {ord("l"): "<", ord("B"): ">"}
_LONGEST = 1 << 20  # bytes of a message that anybody here has use for
_HEAD = 16  # bytes before the header fields


class Refused(Exception):
    """An error that was answered: its name and words."""

    def __init__(self, name: str, words: str) -> None:
        super().__init__(words or name)
        self.name = name


class Bus:
    """A connection that is open within ``with``; all that is done in it takes at most ``seconds``.

    Raises OSError: nobody listens, it took too long, or what came was no D-Bus."""

    def __init__(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds
        self._socket = socket.socket(socket.AF_UNIX)
        self._received = b""
        self._serial = 0

    def __enter__(self) -> Bus:
        try:
            self._hurry()
            self._socket.connect(_address())
            self._authenticate()
            self.ask("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus.Hello")
        except BaseException:
            self._socket.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def ask(self, destination: str, path: str, method: str, *arguments: str) -> str:
        """The first string of the answer, "" for none; who isn't there isn't started. Raises Refused."""
        self._serial += 1
        self._hurry()
        self._socket.sendall(_call(self._serial, destination, path, method, arguments))
        while True:
            kind, fields, text = self._message()
            if fields.get(_REPLY) != self._serial:
                continue  # a signal of the bus's
            if kind == _ERROR:
                raise Refused(str(fields.get(_ERROR_NAME, "")), text)
            return text

    def _hurry(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(errno.ETIMEDOUT, "no answer in time")
        self._socket.settimeout(left)

    def _authenticate(self) -> None:
        """By the peer's credentials ("EXTERNAL")."""
        self._socket.sendall(b"\0AUTH EXTERNAL " + str(os.geteuid()).encode().hex().encode() + b"\r\n")
        while b"\r\n" not in self._received:
            self._more()
        said, self._received = self._received.split(b"\r\n", 1)
        if not said.startswith(b"OK "):
            raise PermissionError(errno.EACCES, "the system bus refuses root")
        self._hurry()
        self._socket.sendall(b"BEGIN\r\n")

    def _more(self) -> None:
        self._hurry()
        part = self._socket.recv(65536)
        if not part or len(self._received) > _LONGEST:
            raise ConnectionResetError(errno.ECONNRESET, "the system bus hung up")
        self._received += part

    def _message(self) -> tuple[int, dict[int, str | int], str]:
        """(type, header fields, first string) of the next message."""
        while len(self._received) < _HEAD:
            self._more()
        try:
            order = _ORDERS[self._received[0]]
            kind = self._received[1]
            body, _, fields = struct.unpack_from(f"{order}III", self._received, 4)
            begins = _HEAD + fields + -fields % 8
            while len(self._received) < begins + body:
                self._more()
            message, self._received = self._received[: begins + body], self._received[begins + body :]
            found = _fields(order, message[: _HEAD + fields])
            text = _string(order, message, begins) if str(found.get(_SIGNATURE, "")).startswith("s") else ""
            return kind, found, text
        except (KeyError, IndexError, struct.error, UnicodeDecodeError):
            raise OSError(errno.EPROTO, "what the system bus sends is no D-Bus") from None


def _address() -> str:
    """Of the first bus named that is a Unix socket ("Server Addresses"). Raises OSError."""
    for one in os.environ.get("DBUS_SYSTEM_BUS_ADDRESS", DEFAULT).split(";"):
        transport, _, rest = one.partition(":")
        pairs = dict(pair.partition("=")[::2] for pair in rest.split(","))
        if transport == "unix" and "path" in pairs:
            return urllib.parse.unquote(pairs["path"])
        if transport == "unix" and "abstract" in pairs:
            return "\0" + urllib.parse.unquote(pairs["abstract"])
    raise OSError(errno.EAFNOSUPPORT, "the system bus has no Unix socket")


def _padded(data: bytes, to: int) -> bytes:
    return data + b"\0" * (-len(data) % to)


def _packed(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("=I", len(raw)) + raw + b"\0"


def _call(serial: int, destination: str, path: str, method: str, arguments: tuple[str, ...]) -> bytes:
    body = b""
    for one in arguments:
        body = _padded(body, 4) + _packed(one)
    interface, _, member = method.rpartition(".")
    texts = ((_PATH, "o", path), (_INTERFACE, "s", interface), (_MEMBER, "s", member))
    fields = b""
    for code, signature, text in (*texts, (_DESTINATION, "s", destination)):
        fields = _padded(fields, 8) + bytes((code, 1, ord(signature), 0)) + _packed(text)
    if arguments:
        count = len(arguments)
        fields = _padded(fields, 8) + bytes((_SIGNATURE, 1, ord("g"), 0, count)) + b"s" * count + b"\0"
    order = ord("l" if sys.byteorder == "little" else "B")
    head = struct.pack("=BBBBIII", order, _CALL, _NO_AUTO_START, 1, len(body), serial, len(fields))
    return _padded(head + fields, 8) + body


def _fields(order: str, header: bytes) -> dict[int, str | int]:
    """Of a header: each is a code, a signature of one letter, and a value."""
    found: dict[int, str | int] = {}
    at = _HEAD
    while at < len(header):
        at += -at % 8
        code, signature, at = header[at], chr(header[at + 2]), at + 4
        if signature == "g":
            length = header[at]
            found[code] = header[at + 1 : at + 1 + length].decode()
            at += length + 2
        elif signature == "u":
            (found[code],) = struct.unpack_from(f"{order}I", header, at)
            at += 4
        else:
            text = _string(order, header, at)
            found[code] = text
            at += 5 + len(text.encode())
    return found


def _string(order: str, message: bytes, at: int) -> str:
    (length,) = struct.unpack_from(f"{order}I", message, at)
    if at + 4 + length >= len(message):
        raise IndexError
    return message[at + 4 : at + 4 + length].decode()

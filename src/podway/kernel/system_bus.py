"""Calls of methods on D-Bus's system bus, as jeepney speaks it: strings in, a string out."""

from __future__ import annotations

import errno
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager

from jeepney import DBusAddress, HeaderFields, Message, MessageFlag, MessageType, new_method_call
from jeepney.bus import get_bus
from jeepney.io.blocking import DBusConnection, prep_socket


class Refused(OSError):
    """An error that was answered; ``name`` is the bus's for it."""

    def __init__(self, name: str, words: str) -> None:
        super().__init__(errno.EPROTO, words or name)
        self.name = name


class Bus(DBusConnection):  # type: ignore[misc]  # it comes without types
    """A connection whose answers, that to its greeting included, are waited for until a deadline.

    ``deadline`` by ``time.monotonic``. Raises TimeoutError."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._deadline = deadline
        super().__init__(sock)

    def receive(self, *, timeout: float | None = None) -> Message:
        return super().receive(timeout=max(0.0, self._deadline - time.monotonic()))

    def ask(self, destination: str, path: str, method: str, *arguments: str) -> str:
        """The first string of the answer, "" for none; who isn't there isn't started. Raises Refused."""
        interface, _, member = method.rpartition(".")
        at = DBusAddress(path, bus_name=destination, interface=interface)
        message = new_method_call(at, member, "s" * len(arguments) or None, arguments)
        message.header.flags |= MessageFlag.no_auto_start
        reply = self.send_and_get_reply(message)
        text = next((one for one in reply.body if isinstance(one, str)), "")
        if reply.header.message_type is MessageType.error:
            raise Refused(reply.header.fields.get(HeaderFields.error_name, ""), text)
        return text


@contextmanager
def system_bus(seconds: float) -> Iterator[Bus]:
    """A connection for the body; all that is done in it takes at most ``seconds``.

    Raises OSError: nobody listens, it took too long, or what came was no D-Bus."""
    deadline = time.monotonic() + seconds
    try:
        with prep_socket(get_bus("SYSTEM"), timeout=seconds) as sock, Bus(sock, deadline) as bus:
            yield bus
    except (ValueError, LookupError, struct.error) as error:  # what the library makes of what is none
        raise OSError(errno.EPROTO, f"the system bus: {str(error) or type(error).__name__}") from None

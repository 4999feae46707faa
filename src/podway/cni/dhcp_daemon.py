"""``dhcp daemon``, as the reference plugin's units and DaemonSets start it.

The agent keeps the leases, so there is nothing to do; but who ended at once would be started again and again.
shim/dhcp_daemon.h does the same in C.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
from types import FrameType
from typing import NoReturn

_FIRST_PASSED = 3  # SD_LISTEN_FDS_START: the first socket of a socket unit
_SAID = (
    "dhcp daemon: Podway's agent keeps the DHCP leases of pods; this process has nothing "
    "to do, waits until it is ended, and may be disabled\n"
)


def pidfile_of(flags: list[str]) -> str:
    """The value of -pidfile, in each way that Go's flags are written; the others change nothing."""
    for at, flag in enumerate(flags):
        name, equals, value = flag.partition("=")
        if name in ("-pidfile", "--pidfile"):
            return value if equals else "".join(flags[at + 1 : at + 2])
    return ""


def wait(flags: list[str]) -> NoReturn:
    """Stay until SIGTERM or SIGINT. Raises SystemExit 1 when the pidfile can't be written."""
    path = pidfile_of(flags)

    def ended(number: int, frame: FrameType | None) -> NoReturn:
        with contextlib.suppress(OSError):
            if path:
                os.unlink(path)
        os._exit(0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ended)
    try:
        if path:
            with open(path, "w", encoding="ascii") as file:
                file.write(str(os.getpid()))
    except OSError as error:
        raise SystemExit(f"dhcp daemon: can't write -pidfile {path}: {error.strerror}") from None
    sys.stderr.write(_SAID)
    sys.stderr.flush()
    if os.environ.get("LISTEN_PID") == str(os.getpid()) and os.environ.get("LISTEN_FDS", "0") != "0":
        with contextlib.suppress(OSError):
            _turn_away(socket.socket(fileno=_FIRST_PASSED))
    while True:
        time.sleep(3600)


def _turn_away(passed: socket.socket) -> NoReturn:
    """Who connects must not wait for ever."""
    while True:
        with contextlib.suppress(ConnectionAbortedError):
            passed.accept()[0].close()

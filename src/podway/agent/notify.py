"""systemd's readiness and watchdog protocol (sd_notify(3)): datagrams to NOTIFY_SOCKET."""

from __future__ import annotations

import os
import socket


def notify(message: str) -> None:
    """Send "READY=1", "WATCHDOG=1", "STOPPING=1" or "STATUS=…"; nothing without NOTIFY_SOCKET."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.sendto(message.encode(), address)
        except OSError:
            pass  # a manager that is gone must not stop the network


def watchdog_interval() -> float | None:
    """Seconds between WATCHDOG=1 messages (half of WATCHDOG_USEC), or None."""
    limit = os.environ.get("WATCHDOG_USEC", "")
    mine = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(limit) / 2e6 if limit.isdigit() and mine else None

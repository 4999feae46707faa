"""Waiting for an agent that was just started, as systemd does (sd_notify(3))."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

PATIENCE = 60.0


@contextlib.contextmanager
def awaited(directory: Path) -> Iterator[dict[str, str]]:
    """What belongs in the environment of an agent started inside; leaving waits until that one is ready."""
    path = directory / "notify"
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
        ready.bind(str(path))
        ready.settimeout(PATIENCE)
        yield {"NOTIFY_SOCKET": os.fspath(path)}
        try:
            while b"READY=1" not in ready.recv(4096):
                pass
        except TimeoutError:
            log = directory / "log"
            said = log.read_text()[-2000:] if log.exists() else "nothing"
            raise AssertionError(f"no agent became ready in {directory}; its log says: {said}") from None

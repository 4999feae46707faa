"""Waking up when a database file or its write-ahead log is written: inotify(7) by ctypes.

The directory is watched, because the log comes and goes with the last connection.
"""

from __future__ import annotations

import ctypes
import os

IN_MODIFY, IN_CREATE, IN_MOVED_TO, IN_DELETE_SELF = 0x2, 0x100, 0x80, 0x400
IN_NONBLOCK, IN_CLOEXEC = os.O_NONBLOCK, os.O_CLOEXEC

_libc = ctypes.CDLL(None, use_errno=True)


class FileWatch:
    """Readable when ``name`` or ``name``-wal in ``directory`` was written. Raises OSError."""

    def __init__(self, directory: str, name: str) -> None:
        self._fd: int = _libc.inotify_init1(IN_NONBLOCK | IN_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        wal = os.path.join(directory, f"{name}-wal")
        # the log itself where it is there: the directory would also tell of every neighbour
        target = wal if os.path.exists(wal) else directory
        mask = IN_MODIFY | IN_CREATE | IN_MOVED_TO | IN_DELETE_SELF
        if _libc.inotify_add_watch(self._fd, os.fsencode(target), mask) < 0:
            number = ctypes.get_errno()
            os.close(self._fd)
            raise OSError(number, f"can't watch {target}: {os.strerror(number)}")

    def fileno(self) -> int:
        """For an event loop."""
        return self._fd

    def drain(self) -> None:
        """Take all pending events."""
        try:
            while os.read(self._fd, 65536):
                pass
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Stop watching."""
        os.close(self._fd)

"""Waking up when a file is written, and again some time later: inotify(7) and timerfd(2) by ctypes."""

from __future__ import annotations

import ctypes
import os
import select
import time

# linux/inotify.h; IN_ATTRIB also tells that the file was unlinked
IN_MODIFY, IN_ATTRIB, IN_DELETE_SELF, IN_MOVE_SELF = 0x2, 0x4, 0x400, 0x800
FLAGS = os.O_NONBLOCK | os.O_CLOEXEC  # = IN_NONBLOCK | IN_CLOEXEC = TFD_NONBLOCK | TFD_CLOEXEC

_libc = ctypes.CDLL(None, use_errno=True)


class _Itimerspec(ctypes.Structure):
    """struct itimerspec: interval and value, each seconds and nanoseconds."""

    _fields_ = [(name, ctypes.c_long) for name in ("every_s", "every_ns", "first_s", "first_ns")]


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


class FileWatch:
    """Readable when the file ``path`` was written or unlinked, or when the time set by ``arm`` is over."""

    def __init__(self, path: str) -> None:
        """Raises OSError."""
        self._fds: list[int] = []
        try:
            self._files = self._own(_libc.inotify_init1(FLAGS), "inotify_init1")
            mask = IN_MODIFY | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF
            added = _libc.inotify_add_watch(self._files, os.fsencode(path), mask)
            _checked(added, f"can't watch {path}")
            self._timer = self._own(_libc.timerfd_create(time.CLOCK_MONOTONIC, FLAGS), "timerfd_create")
            self._both = select.epoll()
        except BaseException:
            self._close_all()
            raise
        for fd in self._fds:
            self._both.register(fd, select.EPOLLIN)

    def _own(self, fd: int, what: str) -> int:
        self._fds.append(_checked(fd, what))
        return fd

    def fileno(self) -> int:
        """For an event loop."""
        return self._both.fileno()

    def drain(self) -> bool:
        """Take all pending wake-ups; whether the file was written."""
        taken = [_read_all(fd) for fd in (self._timer, self._files)]
        return taken[1]

    def arm(self, seconds: float) -> None:
        """Wake up once after ``seconds``, > 0."""
        value = _Itimerspec(0, 0, int(seconds), int(seconds % 1 * 1e9))
        _checked(_libc.timerfd_settime(self._timer, 0, ctypes.byref(value), None), "timerfd_settime")

    def close(self) -> None:
        """Stop watching."""
        self._both.close()
        self._close_all()

    def _close_all(self) -> None:
        while self._fds:
            os.close(self._fds.pop())


def _read_all(fd: int) -> bool:
    found = False
    try:
        while os.read(fd, 65536):
            found = True
    except BlockingIOError:
        pass
    return found

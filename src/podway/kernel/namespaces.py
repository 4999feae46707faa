"""Entering network namespaces: ``setns`` is per thread, so the way back is guaranteed or the process ends."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator

CLONE_NEWNET = 0x40000000  # linux/sched.h
OWN = "/proc/thread-self/ns/net"  # /proc/self stays with the main thread

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def open_namespace(path: str) -> int:
    """A descriptor of the network namespace at ``path``. Raises OSError (EINVAL: not a namespace)."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with entered(fd):
            pass
    except BaseException:
        os.close(fd)
        raise
    return fd


def identity(fd: int) -> str:
    """ "device:inode" of an open namespace: equal exactly when it is the same living namespace."""
    found = os.fstat(fd)
    return f"{found.st_dev}:{found.st_ino}"


def open_same(path: str, known: str) -> int | None:
    """A descriptor of the namespace at ``path`` if it still is the one of ``identity`` ``known``."""
    try:
        fd = open_namespace(path)
    except OSError:
        return None
    if identity(fd) == known:
        return fd
    os.close(fd)
    return None


@contextlib.contextmanager
def entered(fd: int) -> Iterator[None]:
    """Run the body in the namespace ``fd`` on this thread. Sockets made inside stay there.

    A failed return ends the process: a thread in the wrong namespace would write to a stranger.
    """
    home = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc.setns(fd, CLONE_NEWNET), "setns")
        try:
            yield
        finally:
            if _libc.setns(home, CLONE_NEWNET) != 0:
                os._exit(70)
    finally:
        os.close(home)


def unshare() -> None:
    """Move this thread into a new, empty network namespace."""
    _check(_libc.unshare(CLONE_NEWNET), "unshare")


def create() -> int:
    """A descriptor of a new network namespace; it lives as long as the descriptor or a user of it."""
    home = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        unshare()
        try:
            return os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
        finally:
            if _libc.setns(home, CLONE_NEWNET) != 0:
                os._exit(70)
    finally:
        os.close(home)

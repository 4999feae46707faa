"""Reading and writing sysctls of the calling thread's network namespace.

/proc/sys/net shows the namespace of the thread that opens a file, not that of the process.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence

from podway.model.objects import Actual, Op, OpResult, Sysctl

ROOT = "/proc/sys/"


def read(path: str) -> str | None:
    """The value at ``path`` ("net/ipv4/ip_forward"), None when there is no such sysctl."""
    try:
        fd = os.open(ROOT + path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(fd, 4096).decode().strip()
    except OSError:
        return None  # its link vanished meanwhile
    finally:
        os.close(fd)


def write(path: str, value: str) -> None:
    """Raises OSError with the path."""
    fd = os.open(ROOT + path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def observe(paths: Iterable[str]) -> Actual:
    """Those of ``paths`` that exist."""
    values = ((path, read(path)) for path in paths)
    return {("sysctl", path): Sysctl(path=path, value=value) for path, value in values if value is not None}


def apply(ops: Sequence[Op]) -> list[OpResult]:
    """Write each wanted value. A sysctl is never deleted: it goes with its link."""
    return [_apply(op) for op in ops]


def _apply(op: Op) -> OpResult:
    if not isinstance(op.want, Sysctl):
        return OpResult(op)
    try:
        write(op.want.path, op.want.value)
    except OSError as error:
        return OpResult(op, error.errno or errno.EIO, f"{op.want.path}: {error.strerror}")
    return OpResult(op)

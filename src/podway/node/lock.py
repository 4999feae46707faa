"""The one writer of a node: ``flock(STATE/writer)``, which the kernel lets go of with the process."""

from __future__ import annotations

import fcntl
import os
import time
from types import TracebackType

from podway.model.errors import Busy, Unavailable

PAUSE = 0.01


class WriterLock:
    """Held within ``with``. Raises Busy when another holds it for longer than ``timeout`` seconds."""

    def __init__(self, state_dir: str, timeout: float = 0.0) -> None:
        self._path = os.path.join(state_dir, "writer")
        self._timeout = timeout
        self._fd = -1

    def __enter__(self) -> WriterLock:
        try:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _unwritable(self._path, error) from error
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    holder = os.pread(self._fd, 100, 0).decode(errors="replace").strip()
                    os.close(self._fd)
                    what = f"another writer serves this node{': process ' + holder if holder else ''}"
                    raise Busy(what, self._path, "if it is the node's agent, stop that first") from None
                time.sleep(PAUSE)
            else:
                break
        try:
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            os.close(self._fd)
            raise _unwritable(self._path, error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)


def _unwritable(path: str, error: OSError) -> Unavailable:
    fix = "check free space and permissions, and that it is not mounted read-only"
    return Unavailable(f"the state directory can't be written: {error.strerror}", path, fix)

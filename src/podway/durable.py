"""Replacing a file so that whoever looks sees the old one or the new one, and a crash leaves one of them.

Every room may import it; it imports none.
"""

from __future__ import annotations

import os
from pathlib import Path


def replace(path: Path, data: bytes, mode: int) -> None:
    """Make ``data`` the content of ``path``: on the disk before its name is, ``mode`` whatever the umask.

    Raises OSError; then what was there is there, and nothing beside it."""
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.rename(new, path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)

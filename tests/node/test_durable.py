"""Files that outlive a crash whole: the old one or the new one, never half."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from podway import durable


def test_the_new_one_with_its_mode(tmp_path: Path) -> None:
    """Whatever the umask, and whatever mode the old one had."""
    path = tmp_path / "file"
    before = os.umask(0o077)
    try:
        durable.replace(path, b"old", 0o644)
        assert stat.S_IMODE(path.stat().st_mode) == 0o644
        durable.replace(path, b"new", 0o600)
    finally:
        os.umask(before)
    assert path.read_bytes() == b"new" and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_the_old_one_when_the_disk_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """And nothing is left beside it."""
    path = tmp_path / "file"
    durable.replace(path, b"old", 0o644)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match="No space left"):
        durable.replace(path, b"new", 0o644)
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["file"]

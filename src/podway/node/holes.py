"""MTU holes that probes found, kept over a restart: a small file beside the node's database.

Losing it costs another search, nothing else: it is read leniently and written whole or not at all.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

FILE = "holes.json"


class _File(msgspec.Struct, frozen=True):
    """``holes``: node → "NETWORK/FAMILY" → bytes of the largest packet that passes."""

    version: int = 1
    holes: dict[str, dict[str, int]] = {}


def load(state_dir: str) -> dict[str, dict[str, int]]:
    """What was saved; nothing where there is none, or none that this version can read."""
    try:
        found = msgspec.json.decode(Path(state_dir, FILE).read_bytes(), type=_File)
    except (OSError, msgspec.MsgspecError):
        return {}
    return found.holes if found.version == 1 else {}


def save(state_dir: str, holes: dict[str, dict[str, int]]) -> None:
    """Keep ``holes``; where the disk doesn't take it, the next start searches again."""
    new = Path(state_dir, f".{FILE}.new")
    with contextlib.suppress(OSError):
        new.write_bytes(msgspec.json.encode(_File(holes=holes)))
        os.replace(new, Path(state_dir, FILE))

"""WireGuard keys of this node: made here, kept in its state directory, told nobody.

Each way (``plan.way``) has a key of its own, and so a device that is made beside another has another key:
that is how keys are rotated. A file is written whole and synced before its key is used, and goes with its
way.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from podway import durable
from podway.kernel.netlink.wireguard import key_bytes, key_text
from podway.node.x25519 import clamped, multiply

DIRECTORY = "wireguard"
SUFFIX = ".key"
LENGTH = 32


class Keys:
    """``public``: text of a way → public key. ``private``: public key → private key."""

    def __init__(self, state_dir: str | Path) -> None:
        self._directory = Path(state_dir, DIRECTORY)
        self.public: dict[str, str] = {}
        self.private: dict[str, bytes] = {}
        for path in sorted(self._directory.glob(f"*{SUFFIX}")):
            self._load(path)

    def _load(self, path: Path) -> None:
        """A file that holds no key is as good as none: another key is made, and peers learn it."""
        try:
            secret = key_bytes(path.read_text().strip())
        except (OSError, ValueError):
            return
        if len(secret) == LENGTH:
            self._take(path.name.removesuffix(SUFFIX), secret)

    def _take(self, way: str, secret: bytes) -> None:
        public = key_text(multiply(secret))
        self.public[way] = public
        self.private[public] = secret

    def hold(self, ways: Collection[str]) -> bool:
        """Make the keys that are missing for ``ways``, by their texts. Whether any were. Raises OSError."""
        missing = [way for way in ways if way not in self.public]
        for way in missing:
            secret = clamped(os.urandom(LENGTH))
            self._write(way, key_text(secret))
            self._take(way, secret)
        return bool(missing)

    def drop(self, ways: Collection[str]) -> bool:
        """Forget the keys of all but ``ways``. Whether there was one."""
        gone = [way for way in self.public if way not in ways]
        for way in gone:
            (self._directory / f"{way}{SUFFIX}").unlink(missing_ok=True)
            self.private.pop(self.public.pop(way))
        return bool(gone)

    def _write(self, way: str, text: str) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._directory / f"{way}{SUFFIX}"
        durable.replace(path, f"{text}\n".encode(), 0o600)

"""The base of all kernel objects: see ``objects``."""

from __future__ import annotations

from typing import ClassVar

import msgspec

Key = tuple[str, ...]


class Object(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all kernel objects."""

    kind_name: ClassVar[str] = ""

    @property
    def key(self) -> Key:
        """Identity within one network namespace; its first item is ``kind_name``."""
        raise NotImplementedError

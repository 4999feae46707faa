"""The base of everything that is written in a document's ``spec``."""

from __future__ import annotations

import msgspec


class Spec(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """camelCase in documents; a field that has its default isn't stored."""

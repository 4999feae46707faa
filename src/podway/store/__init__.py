"""Where cluster state lives: one protocol, one file per backend. Imports model only.

Read ``protocol.py`` first.
"""

from __future__ import annotations

from podway.model.errors import InvalidInput
from podway.store.protocol import (
    Compacted,
    Event,
    Exists,
    NoStore,
    NotFound,
    Record,
    Stale,
    Store,
    StoreUnavailable,
    Watch,
)

__all__ = [
    "Compacted",
    "Event",
    "Exists",
    "NoStore",
    "NotFound",
    "Record",
    "Stale",
    "Store",
    "StoreUnavailable",
    "Watch",
    "open_store",
]


def open_store(url: str, create: bool = False) -> Store:
    """The store at ``url``: "sqlite:/path/to/file.db". Raises InvalidInput, StoreUnavailable, NoStore.

    ``create``: make it if there is none. Only who declares something may: to a reader a new, empty store
    would say that all is gone."""
    scheme, colon, rest = url.partition(":")
    if not colon or scheme != "sqlite":
        raise InvalidInput(f"store {url!r} is of no known kind", "--store", "use sqlite:/path/to/store.db")
    if not rest:
        raise InvalidInput(f"store {url!r} names no file", "--store", "use sqlite:/path/to/store.db")
    from podway.store.sqlite import SqliteStore

    return SqliteStore(rest, create)

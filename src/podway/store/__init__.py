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
    Objects,
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
    "Objects",
    "Record",
    "Stale",
    "Store",
    "StoreUnavailable",
    "Watch",
    "open_store",
]

KINDS = "use sqlite:/path/to/store.db, or etcd:https://host:2379/prefix"


def open_store(url: str, create: bool = False) -> Store:
    """The store at ``url``. Raises InvalidInput, StoreUnavailable, NoStore.

    "sqlite:/path/to/file.db", or "etcd:https://host:2379/prefix?options" (see ``etcd_url``).
    ``create``: make it if there is none. Only who declares something may: to a reader a new, empty
    store would say that all is gone."""
    scheme, colon, rest = url.partition(":")
    if colon and scheme == "etcd":
        from podway.store.etcd import EtcdStore

        return EtcdStore(url, create)
    if not colon or scheme != "sqlite":
        raise InvalidInput(f"store {url!r} is of no known kind", "--store", KINDS)
    if not rest:
        raise InvalidInput(f"store {url!r} names no file", "--store", "use sqlite:/path/to/store.db")
    from podway.store.sqlite import SqliteStore

    return SqliteStore(rest, create)

"""The cluster as this node sees it: listed from the store, kept locally for an outage."""

from __future__ import annotations

import msgspec

from podway.model import documents
from podway.model.errors import Unavailable
from podway.model.resources import NodeFacts, Snapshot
from podway.node.database import Database
from podway.store import Record, Store

KINDS = ("Network", "Node", "Block")


class Cluster:
    """``snapshot`` is the last one known; ``snapshot.synced`` whether it came from the store itself.

    ``trouble`` says why it did not.
    """

    def __init__(self, node: str, store: Store | None, database: Database) -> None:
        self.node = node
        self.store = store
        self._database = database
        self.trouble = "" if store is not None else "it can't be opened"
        known = database.snapshot()
        self.snapshot = msgspec.structs.replace(known, synced=False) if known else Snapshot()

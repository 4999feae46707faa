"""The Store: what an embedded database, etcd and the Kubernetes API server can all keep.

Single-object operations only. Versions and tokens are opaque: compare them for equality, never for
order. ``spec`` and ``status`` of an object have one writer each and are written apart. Fields that
this version doesn't know are kept, because both are stored as the JSON they came as.
"""

from __future__ import annotations

import builtins
import re
from typing import Protocol

import msgspec

from podway.model.errors import Conflict, InvalidInput, PodwayError, Unavailable

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,252}")


def check_name(kind: str, name: str) -> None:
    """Raises InvalidInput."""
    if not kind.isalnum() or not _NAME.fullmatch(name):
        raise InvalidInput(f"{kind!r} {name!r} is no name of an object", "store")


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One stored object; ``spec`` and ``status`` are JSON. ``version`` changes with every write."""

    kind: str
    name: str
    spec: bytes = b"{}"
    status: bytes = b"{}"
    version: str = ""


class Event(msgspec.Struct, frozen=True):
    """An object's newest state, or (``deleted``) its last one before it went."""

    record: Record
    deleted: bool


class NotFound(PodwayError):
    """There is no object of this kind and name."""


class Exists(Conflict):
    """An object of this kind and name is there already."""


class Stale(Conflict):
    """The object was changed since this version of it was read: read it again."""


class StoreUnavailable(Unavailable):
    """The store can't be reached, opened or written now."""


class NoStore(StoreUnavailable):
    """There is none at this place yet; declaring something makes it."""


class Compacted(Exception):
    """The changes since this token are no longer kept: list again."""


class Watch(Protocol):
    """Changes after a token. Readable by an event loop; one thread at a time."""

    @property
    def token(self) -> str:
        """From where another watch goes on without a gap after what was read."""

    def fileno(self) -> int:
        """Readable when ``read`` may have something; every change makes it so sooner or later."""

    def read(self) -> list[Event]:
        """What changed since the last call; never waits. Nothing may also mean: not visible yet.

        An object that changed several times may come once. Raises Compacted, StoreUnavailable."""

    def close(self) -> None:
        """Stop watching."""


class Objects(Protocol):
    """What an engine needs of a store. All methods raise StoreUnavailable."""

    @property
    def identity(self) -> str:
        """Which store was listed last: another one after it was lost and made anew."""

    def get(self, kind: str, name: str) -> Record:
        """Raises NotFound, and InvalidInput for an illegal kind or name."""

    def list(self, *kinds: str) -> tuple[builtins.list[Record], str]:
        """All objects of these kinds as of one moment, kind after kind and by name, and the token from
        which ``watch`` goes on without a gap."""

    def create(self, record: Record) -> Record:
        """Create if absent, with spec and status. Raises Exists. Returns it with its version."""

    def update_status(self, record: Record) -> Record:
        """Replace the status if ``record.version`` is still the stored one. Raises NotFound, Stale."""

    def delete(self, kind: str, name: str, version: str | None = None) -> None:
        """Delete, if it still has ``version`` where one is given. Raises NotFound, Stale."""

    def close(self) -> None:
        """Let go of the store; its watches stay usable until closed themselves."""


class Store(Objects, Protocol):
    """A store itself. All methods raise StoreUnavailable, and InvalidInput for an illegal kind or name."""

    @property
    def leases(self) -> bool:
        """Whether it keeps who lives: see ``heartbeat``."""

    def update_spec(self, record: Record) -> Record:
        """Replace the spec likewise."""

    def watch(self, kinds: tuple[str, ...], token: str) -> Watch:
        """Changes of ``kinds`` after ``token``. Raises Compacted."""

    def heartbeat(self, node: str, anew: bool) -> None:
        """Say that the agent of ``node`` lives: an object of kind Alive, which goes by itself when that
        isn't said any more. ``anew``: the object is to be made, whatever was said before."""

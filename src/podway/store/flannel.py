"""Flannel's keys in its etcd: listed and watched as a whole, written one at a time with compare-and-swap.

A lease of etcd's carries the life of each key, as Flannel's own daemons do it. The model of what stands in
the keys is ``podway.model.flannel``; this is only the way to them.
"""

from __future__ import annotations

import base64
import contextlib
import socket
from typing import Any

import msgspec

from podway.store.etcd_client import Client, decoded
from podway.store.etcd_records import Change, Range, Txn, after, encoded
from podway.store.etcd_url import PREFIX, parse
from podway.store.http1 import Broken, Connection
from podway.store.protocol import StoreUnavailable

FLANNEL_PREFIX = "coreos.com/network"  # its --etcd-prefix by default, without the first slash


class Stored(msgspec.Struct, frozen=True):
    """A key's value; ``version`` changes with every write, ``lease`` is of etcd (0 = it lives for ever)."""

    value: bytes
    version: str
    lease: str = "0"


class Listed(msgspec.Struct, frozen=True):
    """All of Flannel's keys at one moment; ``token``: from where ``watch`` goes on."""

    config: bytes | None
    leases: dict[str, Stored]
    token: str


class Gone(msgspec.Struct, frozen=True):
    """A lease that was deleted, and its last value."""

    key: str
    value: bytes


class _Lease(msgspec.Struct, frozen=True):
    ID: str = "0"
    TTL: str = "0"


class _Watched(msgspec.Struct, frozen=True):
    created: bool = False
    canceled: bool = False
    events: list[Change] = []


class _Message(msgspec.Struct, frozen=True):
    result: _Watched = _Watched()
    error: dict[str, Any] = {}


class LeaseWatch:
    """Changes under the prefix. Readable by an event loop; one thread at a time."""

    def __init__(self, connection: Connection, base: str, beginning: bytes) -> None:
        self._connection = connection
        self._base = base
        self._rest = beginning

    def fileno(self) -> int:
        """Readable when ``read`` may have something."""
        return self._connection.socket.fileno()

    def read(self) -> tuple[bool, list[Gone]]:
        """Whether anything changed since the last call, and the leases that went. Never waits.

        Raises StoreUnavailable when the stream ended or fell behind: list again."""
        try:
            self._rest += self._connection.available()
        except Broken as error:
            raise StoreUnavailable(f"the watch ended: {error}") from None
        *lines, self._rest = self._rest.split(b"\n")
        changed, gone = False, []
        for line in filter(None, lines):
            message = decoded(line, _Message)
            if message.error or message.result.canceled:
                raise StoreUnavailable("the watch was cancelled")
            for event in message.result.events:
                changed = True
                if event.type == "DELETE":
                    key = base64.b64decode(event.kv.key).decode(errors="replace").removeprefix(self._base)
                    before = event.prev_kv.value if event.prev_kv is not None else ""
                    gone.append(Gone(key, base64.b64decode(before)))
        return changed, gone

    def lost(self) -> None:
        """Its member answers no more: whoever waits for it is woken, and finds the stream ended."""
        with contextlib.suppress(OSError):
            self._connection.socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Stop watching."""
        self._connection.close()


class LeaseStore:
    """All methods raise StoreUnavailable; InvalidInput for a URL that names no etcd."""

    def __init__(self, url: str) -> None:
        address = parse(url)
        prefix = FLANNEL_PREFIX if address.prefix == PREFIX else address.prefix
        self._client = Client(address)
        self._prefix = f"/{prefix}/"
        self._base = f"{self._prefix}subnets/"

    @property
    def _everything(self) -> dict[str, str]:
        return {"key": encoded(self._prefix), "range_end": encoded(after(self._prefix))}

    def list(self) -> Listed:
        """The configuration and every lease, in one request."""
        found = decoded(self._client.call("/v3/kv/range", self._everything).body, Range)
        config: bytes | None = None
        leases: dict[str, Stored] = {}
        for kv in found.kvs:
            key, value = base64.b64decode(kv.key).decode(errors="replace"), base64.b64decode(kv.value)
            if key == f"{self._prefix}config":
                config = value
            elif key.startswith(self._base):
                leases[key.removeprefix(self._base)] = Stored(value, kv.mod_revision, kv.lease)
        return Listed(config, leases, found.header.revision)

    def create(self, key: str, value: bytes, seconds: int) -> bool:
        """Put it there if nobody has; whether it was done, as far as is known: list again to be sure."""
        return self._put(key, value, seconds, {"target": "VERSION", "version": "0"})

    def replace(self, key: str, value: bytes, seconds: int, version: str) -> bool:
        """Put it there anew, with a life of ``seconds``, if it still has ``version``."""
        return self._put(key, value, seconds, {"target": "MOD", "mod_revision": version})

    def _put(self, key: str, value: bytes, seconds: int, compare: dict[str, str]) -> bool:
        reply = self._client.call("/v3/lease/grant", {"TTL": seconds})
        life = decoded(reply.body, _Lease).ID
        put = {"key": encoded(self._base + key), "value": encoded(value), "lease": life}
        done = self._transact(key, compare, {"requestPut": put})
        if not done:
            self._client.call("/v3/lease/revoke", {"ID": life})
        return done

    def delete(self, key: str, version: str) -> bool:
        """Delete it if it still has ``version``."""
        compare = {"target": "MOD", "mod_revision": version}
        return self._transact(key, compare, {"requestDeleteRange": {"key": encoded(self._base + key)}})

    def _transact(self, key: str, compare: dict[str, str], request: dict[str, Any]) -> bool:
        whole = {"key": encoded(self._base + key), "result": "EQUAL", **compare}
        reply = self._client.call("/v3/kv/txn", {"compare": [whole], "success": [request]})
        # a doubtful failure may have been our own success: then the lease must not be revoked
        return decoded(reply.body, Txn).succeeded or reply.doubtful

    def remaining(self, lease: str) -> float:
        """Seconds that a lease of etcd's has to live; a key without one lives for ever."""
        if lease == "0":
            return float("inf")
        return float(decoded(self._client.call("/v3/lease/timetolive", {"ID": lease}).body, _Lease).TTL)

    def watch(self, token: str) -> LeaseWatch:
        """Changes after ``token``."""
        request = self._everything | {"start_revision": str(int(token) + 1), "prev_kv": True}

        def created(connection: Connection, deadline: float) -> LeaseWatch:
            return LeaseWatch(connection, self._base, connection.piece(deadline))

        return self._client.stream("/v3/watch", {"create_request": request}, created)

    def close(self) -> None:
        """Hang up; watches stay usable until closed themselves."""
        self._client.close()

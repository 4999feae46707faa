"""``etcd:URL``: the store of a fleet without Kubernetes, over etcd's v3 JSON gateway.

Read ``etcd_records.py`` for how objects are kept, ``etcd_client.py`` for how members are asked. Every
call is one transaction that also reads the store's marker: an etcd that was wiped is no empty store.
"""

from __future__ import annotations

import base64
import builtins
import itertools
import os
from typing import Any

import msgspec

from podway.store.etcd_client import Client, decoded
from podway.store.etcd_records import (
    FORMAT,
    Kv,
    Layout,
    Marker,
    Txn,
    Value,
    after,
    encoded,
    value_of,
)
from podway.store.etcd_url import Address, parse
from podway.store.etcd_watch import EtcdWatch
from podway.store.protocol import (
    Compacted,
    Exists,
    NoStore,
    NotFound,
    Record,
    Stale,
    StoreUnavailable,
    check_name,
)

PAGE = 1000  # objects in one answer
ALIVE = "Alive"
LIFETIME = 30  # seconds that a node's Alive object outlives its last heartbeat


class EtcdStore:
    """See ``protocol.Store``. Calls are serialised; one instance may be used by several threads.

    Opening it asks a member whether there is a store; ``create`` marks the prefix as one."""

    leases = True

    def __init__(self, url: str, create: bool) -> None:
        address: Address = parse(url)
        self._client = Client(address)
        self._layout = Layout(address.prefix)
        self._create = create
        self._id, self._numbers = os.urandom(8).hex(), itertools.count()
        self._lease = ""
        self.identity = ""
        try:
            self._txn([], [], [])
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """See the protocol."""
        self._client.close()

    # transactions ----------------------------------------------------------------------------------

    def _txn(
        self, compare: builtins.list[Any], success: builtins.list[Any], failure: builtins.list[Any]
    ) -> tuple[Txn, str, bool]:
        """The answer, the store's identity, and whether the same was perhaps done before.

        Both branches begin with a look at the marker. Raises NoStore."""
        look = _range(self._layout.marker)
        body = {"compare": compare, "success": [look, *success], "failure": [look, *failure]}
        for _ in range(2):
            reply = self._client.call("/v3/kv/txn", body)
            answer = decoded(reply.body, Txn)
            found = answer.responses[0].response_range.kvs if answer.responses else []
            if found:
                self.identity = self._identity(found[0])
                return answer, self.identity, reply.doubtful
            if not self._create:
                break
            self._mark()
        where = f"{self._layout.root} in etcd"
        raise NoStore("there is no store yet", where, "podway apply makes it; was etcd restored empty?")

    def _identity(self, marker: Kv) -> str:
        data = base64.b64decode(marker.value)
        try:
            known = msgspec.json.decode(data, type=Marker)
        except msgspec.MsgspecError as error:
            raise StoreUnavailable(
                f"the store's marker can't be read: {error}", self._layout.marker
            ) from None
        if known.format != FORMAT:
            words = f"the store has format {known.format}, this version reads {FORMAT}"
            raise StoreUnavailable(words, self._layout.marker, "run the podway that made it, or a later one")
        return known.id

    def _mark(self) -> None:
        """Say that here is a store, unless it was said meanwhile."""
        marker = msgspec.json.encode(Marker(FORMAT, os.urandom(8).hex()))
        body = {
            "compare": [_absent(self._layout.marker)],
            "success": [_put(self._layout.marker, marker)],
        }
        self._client.call("/v3/kv/txn", body)

    def _there(self) -> Any:
        """Only where there is a store: nothing is written into an etcd that was wiped."""
        return {
            "key": encoded(self._layout.marker),
            "target": "CREATE",
            "result": "GREATER",
            "create_revision": "0",
        }

    # one object ------------------------------------------------------------------------------------

    def get(self, kind: str, name: str) -> Record:
        """See the protocol."""
        return self._record(self._read(kind, name))

    def _record(self, kv: Kv, version: str = "") -> Record:
        record = self._layout.record(kv, version)
        assert record is not None
        return record

    def _read(self, kind: str, name: str) -> Kv:
        check_name(kind, name)
        answer, _, _ = self._txn([], [_range(self._layout.key(kind, name))], [])
        return _found(answer, kind, name)

    def list(self, *kinds: str) -> tuple[builtins.list[Record], str]:
        """See the protocol. In pages, all of one revision."""
        while True:
            try:
                return self._list(kinds)
            except Compacted:
                continue  # between two pages

    def _list(self, kinds: tuple[str, ...]) -> tuple[builtins.list[Record], str]:
        records: builtins.list[Record] = []
        token, revision = "", "0"
        for kind in kinds:
            start, end, more = self._layout.key(kind, ""), after(self._layout.key(kind, "")), True
            while more:
                page = _range(start, range_end=encoded(end), limit=str(PAGE), revision=revision)
                answer, identity, _ = self._txn([], [page], [])
                if not token:
                    revision = answer.header.revision
                    token = f"{identity}.{answer.header.cluster_id}:{revision}"
                found = answer.responses[1].response_range
                records += [self._record(kv) for kv in found.kvs]
                if more := found.more:
                    start = base64.b64decode(found.kvs[-1].key).decode() + "\0"
        return records, token

    def create(self, record: Record) -> Record:
        """See the protocol."""
        check_name(record.kind, record.name)
        value = Value(record.spec, record.status, self._new_write())
        key = self._layout.key(record.kind, record.name)
        done = self._write([_absent(key)], key, value)
        if done is None:
            raise Exists(f"{record.kind} {record.name} is there already")
        return done

    def _new_write(self) -> str:
        return f"{self._id}.{next(self._numbers)}"

    def _write(self, compare: builtins.list[Any], key: str, value: Value) -> Record | None:
        """Put a value if ``compare`` holds; None if it did not."""
        data = value.encoded()
        answer, _, doubtful = self._txn([*compare, self._there()], [_put(key, data)], [_range(key)])
        if answer.succeeded:
            kv = Kv(encoded(key), encoded(data), answer.header.revision)
            return self._record(kv)
        for kv in answer.responses[1].response_range.kvs:
            # an earlier attempt at this very write, of which no answer came
            if doubtful and value_of(base64.b64decode(kv.value)).write == value.write:
                return self._record(kv)
        return None

    def update_spec(self, record: Record) -> Record:
        """See the protocol."""
        return self._update(record, spec=True)

    def update_status(self, record: Record) -> Record:
        """See the protocol."""
        return self._update(record, spec=False)

    def _update(self, record: Record, spec: bool) -> Record:
        kv = self._read(record.kind, record.name)
        if kv.mod_revision != record.version:
            raise _stale(record.kind, record.name)
        old = value_of(base64.b64decode(kv.value))
        news = {"spec": record.spec} if spec else {"status": record.status}
        value = msgspec.structs.replace(old, write=self._new_write(), **news)
        key = self._layout.key(record.kind, record.name)
        done = self._write([_unchanged(key, kv.mod_revision)], key, value)
        if done is None:
            raise _stale(record.kind, record.name)
        return done

    def delete(self, kind: str, name: str, version: str | None = None) -> None:
        """See the protocol."""
        check_name(kind, name)
        key = self._layout.key(kind, name)
        compare = [] if version is None else [_unchanged(key, version)]
        remove = {"request_delete_range": {"key": encoded(key)}}
        answer, _, doubtful = self._txn([*compare, self._there()], [remove], [_range(key)])
        if answer.succeeded:
            gone = answer.responses[1].response_delete_range.deleted
            if gone == "0" and not doubtful:
                raise NotFound(f"there is no {kind} {name}")
        elif answer.responses[1].response_range.kvs:
            raise _stale(kind, name)
        elif not doubtful:
            raise NotFound(f"there is no {kind} {name}")

    # watching and liveness -------------------------------------------------------------------------

    def watch(self, kinds: tuple[str, ...], token: str) -> EtcdWatch:
        """See the protocol."""
        where, colon, revision = token.rpartition(":")
        if not colon or not revision.isdigit():
            raise Compacted
        answer, identity, _ = self._txn([], [], [])
        # an etcd restored from a backup has gone back in time
        if where.partition(".")[0] != identity or int(revision) > int(answer.header.revision):
            raise Compacted
        return EtcdWatch.begin(self._client, self._layout, kinds, where, int(revision))

    def heartbeat(self, node: str, anew: bool) -> None:
        """See the protocol: the object hangs on a lease, which is all that is renewed."""
        check_name(ALIVE, node)
        if self._lease and not anew:
            reply = self._client.call("/v3/lease/keepalive", {"ID": self._lease})
            if decoded(reply.body, _KeptAlive).result.TTL != "0":
                return
        reply = self._client.call("/v3/lease/grant", {"TTL": str(LIFETIME)})
        self._lease = decoded(reply.body, _Lease).ID
        key = self._layout.key(ALIVE, node)
        self._txn([self._there()], [_put(key, Value().encoded(), lease=self._lease)], [])


class _Lease(msgspec.Struct, frozen=True):
    """LeaseGrantResponse, LeaseKeepAliveResponse; without TTL the lease is over."""

    ID: str = ""
    TTL: str = "0"


class _KeptAlive(msgspec.Struct, frozen=True):
    result: _Lease = _Lease()


def _range(key: str, **more: str) -> dict[str, Any]:
    return {"request_range": {"key": encoded(key), **more}}


def _put(key: str, value: bytes, **more: str) -> dict[str, Any]:
    return {"request_put": {"key": encoded(key), "value": encoded(value), **more}}


def _absent(key: str) -> dict[str, Any]:
    return {"key": encoded(key), "target": "CREATE", "result": "EQUAL", "create_revision": "0"}


def _unchanged(key: str, version: str) -> dict[str, Any]:
    # what is no number is no version: nothing has it
    return {
        "key": encoded(key),
        "target": "MOD",
        "result": "EQUAL",
        "mod_revision": version if version.isdigit() else "-1",
    }


def _found(answer: Txn, kind: str, name: str) -> Kv:
    kvs = answer.responses[1].response_range.kvs
    if not kvs:
        raise NotFound(f"there is no {kind} {name}")
    return kvs[0]


def _stale(kind: str, name: str) -> Stale:
    return Stale(f"{kind} {name} was changed meanwhile", fix="read it again and retry")

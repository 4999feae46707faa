"""How an object is kept in etcd: keys, values, and the answers that hold them. Pure.

    PREFIX/store        {"format":1,"id":"…"}: that there is a store here, and which
    PREFIX/KIND/NAME    {"spec":{…},"status":{…},"write":"…"}; the object's version is its mod_revision

``write`` names the write that made the value, so that one repeated at another member finds itself.
"""

from __future__ import annotations

import base64

import msgspec

from podway.store.protocol import Record

FORMAT = 1


class Kv(msgspec.Struct, frozen=True):
    """mvccpb.KeyValue; bytes in base64, numbers as text."""

    key: str
    value: str = ""
    mod_revision: str = "0"
    create_revision: str = "0"
    lease: str = "0"  # "0": it lives for ever


class Header(msgspec.Struct, frozen=True):
    """ResponseHeader."""

    cluster_id: str = "0"
    revision: str = "0"


class Range(msgspec.Struct, frozen=True):
    """RangeResponse."""

    header: Header = Header()
    kvs: list[Kv] = []
    more: bool = False


class Deleted(msgspec.Struct, frozen=True):
    """DeleteRangeResponse."""

    deleted: str = "0"


class OneOf(msgspec.Struct, frozen=True):
    """ResponseOp."""

    response_range: Range = Range()
    response_delete_range: Deleted = Deleted()


class Txn(msgspec.Struct, frozen=True):
    """TxnResponse."""

    header: Header = Header()
    succeeded: bool = False
    responses: list[OneOf] = []


class Change(msgspec.Struct, frozen=True):
    """mvccpb.Event; the type PUT is left out."""

    kv: Kv
    type: str = "PUT"
    prev_kv: Kv | None = None


class Marker(msgspec.Struct, frozen=True):
    """The value of PREFIX/store."""

    format: int
    id: str


class Layout:
    """Keys below one prefix."""

    def __init__(self, prefix: str) -> None:
        self.root = f"{prefix}/"
        self.marker = f"{prefix}/store"

    def key(self, kind: str, name: str) -> str:
        """Of one object; with name "" the beginning of all of its kind."""
        return f"{self.root}{kind}/{name}"

    def record(self, kv: Kv, version: str = "") -> Record | None:
        """The object of a key; None for a key that is no object's."""
        kind, slash, name = _text(kv.key).removeprefix(self.root).partition("/")
        if not slash:
            return None
        value = value_of(base64.b64decode(kv.value))
        version = version or kv.mod_revision
        return Record(kind=kind, name=name, spec=value.spec, status=value.status, version=version)


def encoded(value: str | bytes) -> str:
    """Bytes as the gateway's JSON has them (RFC 4648)."""
    return base64.b64encode(value if isinstance(value, bytes) else value.encode()).decode()


def _text(key: str) -> str:
    """A key that isn't UTF-8 is none of ours, and must be named all the same."""
    return base64.b64decode(key).decode(errors="backslashreplace")


def after(prefix: str) -> str:
    """The end of the range of all keys that begin with ``prefix``, which ends in "/" (= 0x2F)."""
    return prefix[:-1] + "0"


class Value(msgspec.Struct, frozen=True):
    """What a key holds, taken apart; ``rest`` are fields of a later version, kept."""

    spec: bytes = b"{}"
    status: bytes = b"{}"
    write: str = ""
    rest: dict[str, msgspec.Raw] = {}

    def encoded(self) -> bytes:
        """The value of the key. Spec and status go in as they are, whatever version wrote them."""
        own = {"spec": self.spec, "status": self.status, "write": msgspec.json.encode(self.write)}
        parts = [msgspec.json.encode(name) + b":" + text for name, text in (own | self.rest).items()]
        return b"{%b}" % b",".join(bytes(part) for part in parts)


def value_of(data: bytes) -> Value:
    """A value that is no such JSON is a spec that can't be read."""
    try:
        rest = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        spec, status, write = rest.pop("spec"), rest.pop("status", b"{}"), rest.pop("write", b'""')
        return Value(bytes(spec), bytes(status), msgspec.json.decode(write, type=str), rest)
    except (msgspec.MsgspecError, KeyError, UnicodeDecodeError):
        return Value(spec=data)

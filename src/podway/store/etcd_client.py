"""Calls of etcd's v3 JSON gateway: several endpoints, TLS, a token for a password.

A call stays with the member that answered last and goes on to the next when that one fails. While no
member takes a connection it fails at once; while they answer that they have no leader it asks again
until its time is over. ``Reply.doubtful`` says that an earlier attempt at the same call may have been
carried out: whoever writes must then look whether it was.
"""

from __future__ import annotations

import os
import random
import ssl
import threading
import time
import weakref
from collections.abc import Callable
from typing import Protocol, TypeVar

import msgspec

from podway.store.etcd_url import Address, Endpoint
from podway.store.http1 import Broken, Connection
from podway.store.protocol import Compacted, StoreUnavailable

PATIENCE = 5.0  # seconds for a call, whatever happens
ATTEMPT = 2.0  # seconds for one member: more than an election takes to be noticed
PAUSE = 0.1  # seconds before all members are asked again, doubled, jittered
# google.golang.org/grpc/codes
INVALID, PERMISSION, EXHAUSTED, OUT_OF_RANGE, UNAVAILABLE, UNAUTHENTICATED = 3, 7, 8, 11, 14, 16
#: without it a member that lost its cluster would take calls and watches and never answer them
REQUIRE_LEADER = {"Grpc-Metadata-Hasleader": "true"}

T = TypeVar("T")
L = TypeVar("L", bound="Lost")


class Refused(Exception):
    """A member's answer that is an error; ``code`` as of gRPC, -1 = no answer of etcd's."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.code = code

    @property
    def token_is_old(self) -> bool:
        """A new token is needed: the member restarted, it expired, or roles were changed."""
        return self.code == UNAUTHENTICATED or "revision of auth store is old" in str(self)


class Lost(Protocol):
    """Who reads a stream."""

    def lost(self) -> None:
        """Its member answers no more calls; may be called from any thread."""


class Reply(msgspec.Struct, frozen=True):
    """A call's JSON, and whether an earlier attempt may have done it."""

    body: bytes
    doubtful: bool


class Client:
    """Used by several threads; calls are serialised, streams have connections of their own."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._lock = threading.Lock()
        # a fleet spreads over the members
        self._at = random.randrange(len(address.endpoints))
        self._connection: Connection | None = None
        self._token = ""
        self._tls: ssl.SSLContext | None = None
        self._tls_of: tuple[int, ...] = ()
        #: told when the member that they hang on to is given up
        self._streams: weakref.WeakKeyDictionary[Lost, Endpoint] = weakref.WeakKeyDictionary()

    def close(self) -> None:
        """Hang up."""
        with self._lock:
            self._drop()

    def call(self, path: str, body: object, patience: float = PATIENCE) -> Reply:
        """POST to ``path`` ("/v3/kv/txn"). Raises StoreUnavailable, Compacted."""
        encoded = msgspec.json.encode(body)

        def once(deadline: float) -> bytes:
            if self._connection is None or not self._connection.usable:
                self._connection = self._connect(deadline)
            return _answer(*self._connection.post(path, self._headers(), encoded, deadline))

        with self._lock:
            data, doubtful = self._insist(once, patience)
        return Reply(data, doubtful)

    def stream(self, path: str, body: object, reader: Callable[[Connection, float], L]) -> L:
        """What ``reader`` makes of a connection whose answer goes on; it waits for the beginning.

        Raises StoreUnavailable, Compacted, and what ``reader`` raises but Refused and Broken."""
        encoded = msgspec.json.encode(body)

        def once(deadline: float) -> L:
            connection = self._connect(deadline)
            try:
                status = connection.begin(path, self._headers(), encoded, deadline)
                if status != 200:
                    raise _refusal(status, connection.piece(deadline))
                made = reader(connection, deadline)
            except BaseException:
                connection.close()
                raise
            self._streams[made] = self._here
            return made

        with self._lock:
            return self._insist(once, PATIENCE)[0]

    def _insist(self, once: Callable[[float], T], patience: float) -> tuple[T, bool]:
        """Try member after member; the result, and whether an attempt before it is doubtful."""
        end = time.monotonic() + patience
        doubtful, renewed, pause = False, False, PAUSE
        failures: dict[Endpoint, str] = {}
        while True:
            connected = False
            for _ in range(len(self.address.endpoints) + 1):
                aged = self._connection is not None and not self._connection.fresh
                try:
                    if self.address.user and not self._token:
                        self._authenticate(min(end, time.monotonic() + ATTEMPT))
                    return once(min(end, time.monotonic() + ATTEMPT)), doubtful
                except Broken as error:
                    doubtful = doubtful or error.sent
                    connected = connected or error.sent
                    failures[self._here] = str(error)
                    aged = aged and not error.late
                except Refused as error:
                    if error.token_is_old and self.address.user and not renewed:
                        self._token, renewed, connected = "", True, True
                        continue
                    self._final(error)
                    doubtful, connected, aged = True, True, False
                    failures[self._here] = str(error)
                self._drop()
                if not aged:  # else it only grew old: the same member on a new connection
                    self._next()
            left = end - time.monotonic() - pause
            if not connected or left <= 0:
                raise self._nobody(failures)
            time.sleep(pause * random.uniform(0.5, 1.0))
            pause *= 2

    @property
    def _here(self) -> Endpoint:
        return self.address.endpoints[self._at]

    def _next(self) -> None:
        left, self._at = self._here, (self._at + 1) % len(self.address.endpoints)
        for stream, member in list(self._streams.items()):
            if member == left:
                stream.lost()

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _nobody(self, failures: dict[Endpoint, str]) -> StoreUnavailable:
        words = "; ".join(f"{endpoint}: {why}" for endpoint, why in failures.items())
        return StoreUnavailable(
            f"no member of etcd answers: {words}", "", "see whether etcd runs and is reached"
        )

    def _final(self, error: Refused) -> None:
        """Raise what asking another member can't mend."""
        words = f"etcd at {self._here} refuses: {error}"
        if error.code == OUT_OF_RANGE:
            raise Compacted
        if error.code == PERMISSION and self.address.user:
            fix = f"grant {self.address.user} readwrite on the prefix {self.address.prefix}/"
            raise StoreUnavailable(words, "", fix)
        if error.code == EXHAUSTED and "space" in str(error):
            raise StoreUnavailable(words, "", "compact and defragment etcd, then disarm its alarm")
        if error.code in (UNAUTHENTICATED, PERMISSION) or "user name is empty" in str(error):
            raise StoreUnavailable(words, "", "give the store's URL user=NAME&password-file=FILE")
        if error.code == INVALID:
            raise StoreUnavailable(words)
        if error.code == -1 and str(error).startswith("404"):
            raise StoreUnavailable(words, "", "is it etcd 3.4 or later, with its JSON gateway enabled?")
        if "CommonName" in str(error):
            fix = (
                "with passwords, etcd's gateway takes no client certificate that has a CN: issue one without"
            )
            raise StoreUnavailable(words, "", fix)

    def _headers(self) -> dict[str, str]:
        return REQUIRE_LEADER | ({"Authorization": self._token} if self._token else {})

    def _connect(self, deadline: float) -> Connection:
        here = self._here
        return Connection(here.host, here.port, self._context() if here.tls else None, deadline)

    def _context(self) -> ssl.SSLContext:
        """Made anew when its files were: certificates are renewed under a running agent."""
        address = self.address
        files = [path for path in (address.cacert, address.cert, address.key) if path]
        try:
            now = tuple(os.stat(path).st_mtime_ns for path in files)
            if self._tls is None or now != self._tls_of:
                context = ssl.create_default_context(cafile=address.cacert or None)
                if address.cert:
                    context.load_cert_chain(address.cert, address.key)
                self._tls, self._tls_of = context, now
        except (OSError, ssl.SSLError) as error:
            where = getattr(error, "filename", None) or ", ".join(files)
            raise StoreUnavailable(f"a certificate or key can't be used: {error}", where) from None
        return self._tls

    def _authenticate(self, deadline: float) -> None:
        """A new token; the password is read each time, as it may be changed under a running agent."""
        path = self.address.password_file
        try:
            with open(path) as file:
                password = file.read().strip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise StoreUnavailable(f"the password can't be read: {error}", path) from None
        body = msgspec.json.encode({"name": self.address.user, "password": password})
        connection = self._connect(deadline)
        try:
            status, data = connection.post("/v3/auth/authenticate", REQUIRE_LEADER, body, deadline)
        except Broken as error:
            raise Broken(str(error), sent=False) from None  # the call itself was not sent
        finally:
            connection.close()
        try:
            self._token = msgspec.json.decode(_answer(status, data), type=_Token).token
        except Refused as error:
            if error.code == INVALID:
                fix = f"see the password in {path}, and that etcd has authentication enabled"
                raise StoreUnavailable(f"etcd refuses user {self.address.user}: {error}", "", fix) from None
            raise


class _Token(msgspec.Struct, frozen=True):
    token: str


class _Error(msgspec.Struct, frozen=True):
    message: str = ""
    code: int = -1
    grpc_code: int = -1  # inside a stream


class StreamError(msgspec.Struct, frozen=True):
    """A message of a stream that is an error."""

    error: _Error

    def refusal(self) -> Refused:
        """As a call's error."""
        code = self.error.grpc_code if self.error.grpc_code != -1 else self.error.code
        return Refused(code, self.error.message)


def _answer(status: int, body: bytes) -> bytes:
    if status != 200:
        raise _refusal(status, body)
    return body


def _refusal(status: int, body: bytes) -> Refused:
    try:
        error = msgspec.json.decode(body, type=_Error)
    except msgspec.MsgspecError:
        error = _Error()
    words = body[:200].decode(errors="replace").strip()
    return Refused(error.code, error.message or f"{status} {words}")


def decoded(body: bytes, kind: type[T]) -> T:
    """An answer's JSON. Raises StoreUnavailable when it isn't what etcd answers."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise StoreUnavailable(f"etcd's answer can't be read: {error}") from None

"""One HTTP/1.1 connection to a JSON service, framed by h11, on a plain or TLS socket.

Blocking, under a deadline; the answer to ``begin`` may also be read piece by piece by an event loop.
h11 costs 5 ms and 0.5 MiB to import; a framework with a client of its own 90 ms and 13 MiB.
"""

from __future__ import annotations

import socket
import ssl
import time

import h11

CONNECT = 1.0  # seconds for one address of a host; the next one is tried after it
CHUNK = 65536
#: tcp(7). A peer that is gone is noticed by the kernel, without a wake-up of this process.
KEEPALIVE = (
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 20_000),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
)


class Broken(Exception):
    """The connection can't be used any more.

    ``sent``: the other side may have had the whole request. ``late``: it did not answer in time."""

    def __init__(self, why: str | BaseException, sent: bool) -> None:
        super().__init__(why if isinstance(why, str) else _words(why))
        self.sent = sent
        self.late = isinstance(why, TimeoutError)


class Connection:
    """Requests one after the other; used by one thread at a time."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None, deadline: float) -> None:
        """Connect. ``deadline`` is of the monotonic clock. Raises Broken."""
        self.where = f"{host}:{port}"
        self._authority = f"[{host}]:{port}" if ":" in host else self.where
        self.fresh = True  # no request yet: a failure is no sign of a connection that grew old
        self._http = h11.Connection(h11.CLIENT)
        try:
            self.socket = _connect(host, port, tls, deadline)
        except (OSError, ValueError) as error:
            raise Broken(error, sent=False) from None

    def close(self) -> None:
        """Hang up."""
        self.socket.close()

    def post(self, path: str, headers: dict[str, str], body: bytes, deadline: float) -> tuple[int, bytes]:
        """One whole exchange: status and body. Raises Broken."""
        status = self.begin(path, headers, body, deadline)
        data = bytearray()
        while True:
            event = self._next(deadline)
            if isinstance(event, h11.Data):
                data += event.data
            elif isinstance(event, h11.EndOfMessage):
                break
            else:
                raise Broken("the answer was cut off", sent=True)
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        else:
            self.close()
        self.fresh = False
        return status, bytes(data)

    @property
    def usable(self) -> bool:
        """Whether another request may be sent."""
        return self._http.our_state is h11.IDLE and self.socket.fileno() >= 0

    def begin(self, path: str, headers: dict[str, str], body: bytes, deadline: float) -> int:
        """Send a request and read the head of its answer: the status. Raises Broken."""
        head = {"Host": self._authority, "Content-Length": str(len(body)), **headers}
        request = h11.Request(method="POST", target=path, headers=list(head.items()))
        parts = [self._http.send(request), self._http.send(h11.Data(body))]
        parts.append(self._http.send(h11.EndOfMessage()))
        try:
            self._until(deadline)
            self.socket.sendall(b"".join(part for part in parts if part))
        except OSError as error:
            raise Broken(error, sent=True) from None
        while True:
            event = self._next(deadline)
            if isinstance(event, h11.Response):
                return event.status_code
            if not isinstance(event, h11.InformationalResponse):
                raise Broken("the other side hung up", sent=True)

    def _until(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.socket.settimeout(left)

    def _next(self, deadline: float) -> object:
        """The next event of the answer."""
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                self._until(deadline)
                self._http.receive_data(self.socket.recv(CHUNK))
        except OSError as error:
            raise Broken(error, sent=True) from None
        except h11.RemoteProtocolError as error:
            raise Broken(f"no HTTP answer: {error}", sent=True) from None
        return event

    def piece(self, deadline: float) -> bytes:
        """More of an answer that was begun, waiting for it. Raises Broken at its end too."""
        event = self._next(deadline)
        if isinstance(event, h11.Data):
            return bytes(event.data)
        raise Broken("the other side ended the answer", sent=True)

    def available(self) -> bytes:
        """What has come of the answer by now, without waiting. Raises Broken."""
        found = bytearray()
        self.socket.setblocking(False)
        while True:
            try:
                event = self._http.next_event()
                if event is h11.NEED_DATA:
                    self._http.receive_data(self.socket.recv(CHUNK))
                    continue
            except (BlockingIOError, ssl.SSLWantReadError):
                return bytes(found)
            except (OSError, h11.RemoteProtocolError) as error:
                raise Broken(error, sent=True) from None
            if not isinstance(event, h11.Data):
                if found:  # what came before the end is told first, the end at the next call
                    return bytes(found)
                raise Broken("the other side ended the answer", sent=True)
            found += event.data


def _connect(host: str, port: int, tls: ssl.SSLContext | None, deadline: float) -> socket.socket:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    raw = socket.create_connection((host, port), timeout=min(CONNECT, left))
    try:
        for level, option, value in KEEPALIVE:
            raw.setsockopt(level, option, value)
        if tls is None:
            return raw
        raw.settimeout(max(0.01, min(2 * CONNECT, deadline - time.monotonic())))
        return tls.wrap_socket(raw, server_hostname=host)
    except BaseException:
        raw.close()
        raise


def _words(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or error}"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error)

"""The agent's side of the executable: an asyncio server on a Unix socket, one coroutine per call.

Reading is done by readiness callbacks, because asyncio's streams can't receive descriptors. The
work itself is given to ``submit``; this module decodes, checks who calls and from where, answers,
and closes every descriptor that came along, whatever happened. The thread that has the answer sends it: a
caller waits for the event loop once, not twice.

At most LIMIT calls are held at once; more wait in the listen queue, which is longer. A caller that
does not deliver its message in time is hung up on, so that it can't keep a place.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import logging
import os
import socket
import stat
import struct
from collections.abc import Awaitable, Callable

from podway.cni import wire
from podway.cni.answer import failure
from podway.cni.errors import DECODE, ENVIRONMENT, CniError
from podway.cni.protocol import Answer, Call
from podway.kernel import namespaces
from podway.model.errors import Conflict, Unavailable

LIMIT = 100
BACKLOG = 1024
RETRY = 0.1  # seconds, when no descriptor is left
PATIENCE = 10.0  # seconds from the connection to the last byte of the message

_CREDENTIALS = struct.Struct("3i")  # struct ucred, unix(7)
_DESCRIPTORS = 2
_CHUNK = 64 * 1024

_log = logging.getLogger("podway.cni")

Tell = Callable[[Answer], None]  # gives the caller its answer, from any thread; once
Submit = Callable[[Call, Tell], Awaitable[None]]


class Server:
    """Serves calls at ``path`` until closed; callers in other network namespaces are sent elsewhere.

    A call's descriptors stay open until ``submit`` was awaited: close the server before cancelling its
    tasks.
    """

    def __init__(self, path: str, submit: Submit, *, patience: float = PATIENCE) -> None:
        self._path = path
        self._submit = submit
        self._patience = patience
        self._listener: socket.socket | None = None
        self._inode = 0
        self._namespace: os.stat_result | None = None
        self._calls: set[asyncio.Task[None]] = set()
        self._paused = False

    async def start(self) -> None:
        """Listen. The socket file replaces one that a dead agent left.

        Raises Conflict when another agent listens, or something else than a socket is there."""
        self._namespace = os.stat(namespaces.OWN)
        _refuse_the_living(self._path)
        self._listener, self._inode = _listen(self._path)
        asyncio.get_running_loop().add_reader(self._listener, self._accept)

    async def close(self) -> None:
        """Remove the socket file if it is still this one, and answer everybody who came before."""
        if self._listener is None:
            return
        with contextlib.suppress(FileNotFoundError):
            if os.lstat(self._path).st_ino == self._inode:
                os.unlink(self._path)
        while len(self._calls) < LIMIT and self._accept():
            pass  # who came before the file went away may have sent its message already
        asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.close()
        self._listener = None
        if self._calls:
            await asyncio.wait(self._calls)

    def _accept(self) -> bool:
        """Take one call in; whether there was one."""
        assert self._listener is not None
        loop = asyncio.get_running_loop()
        try:
            connection, _ = self._listener.accept()
        except BlockingIOError:
            return False
        except OSError as error:  # out of descriptors: the callers wait in the queue meanwhile
            _log.warning("can't accept a CNI call: %s", error)
            loop.call_later(RETRY, self._resume)
            self._pause()
            return False
        connection.setblocking(False)
        line = _Line(connection)
        task = loop.create_task(self._serve(line))
        self._calls.add(task)
        task.add_done_callback(self._ended)
        if len(self._calls) >= LIMIT:
            self._pause()
        return True

    def _pause(self) -> None:
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._paused = True

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._calls.discard(task)
        if not task.cancelled() and (error := task.exception()):
            _log.error("serving a CNI call failed", exc_info=error)
        self._resume()

    def _resume(self) -> None:
        if self._paused and self._listener is not None:
            self._paused = False
            asyncio.get_running_loop().add_reader(self._listener, self._accept)

    async def _serve(self, line: _Line) -> None:
        try:
            if (work := self._begin(line)) is None:
                async with asyncio.timeout(self._patience):
                    while (work := self._begin(line)) is None:
                        await _readable(line.connection)
            await work
        except TimeoutError:
            _log.warning("hung up on a CNI caller: no whole message in %s s", self._patience)
        except (EOFError, ConnectionError) as error:
            _log.info("a CNI caller went away: %s", error)
        finally:
            line.close()

    def _begin(self, line: _Line) -> Awaitable[None] | None:
        """What is to be done for a call; None while its message isn't whole. Raises EOFError, OSError."""
        try:
            _only_root(line.connection)
            message = line.message()
            if message is None:
                return None
            call = _call(message, line.held)
        except (wire.WireError, CniError) as error:
            _log.warning("refused a CNI call: %s", error)
            line.tell(failure(error if isinstance(error, CniError) else CniError(DECODE, str(error))))
            return line.end()
        assert self._namespace is not None
        if os.path.samestat(os.fstat(call.caller_fd), self._namespace):
            return line.end(self._submit(call, line.tell))
        line.send(wire.Reply(0, b"", kind=wire.ELSEWHERE, version=message.version))
        return line.end()


class _Line:
    """The connection of a caller, and what came by it: ``held``, its descriptors."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.held: list[int] = []
        self._data = bytearray()
        self._version = wire.NEWEST
        self._rest = b""

    def message(self) -> wire.Message | None:
        """Read what is there; the message, once it is whole. Raises WireError, EOFError, OSError."""
        while True:
            if len(self._data) >= wire.REQUEST_HEADER:
                version, length = wire.request_length(bytes(self._data[: wire.REQUEST_HEADER]))
                body = self._data[wire.REQUEST_HEADER :]
                if len(body) >= length:
                    self._version = version
                    return wire.decode(version, bytes(body[:length]))
            try:
                self._data += _receive_rights(self.connection, self.held)
            except BlockingIOError:
                return None

    def tell(self, answer: Answer) -> None:
        """The answer; from any thread."""
        self.send(wire.Reply(answer.exit_code, answer.stdout, version=self._version))

    def send(self, reply: wire.Reply) -> None:
        """What doesn't go at once is left for the event loop."""
        data, sent = wire.encode_reply(reply), 0
        with contextlib.suppress(OSError):  # there is no room now; or nobody, as the event loop will find
            sent = self.connection.send(data)
        self._rest = data[sent:]

    async def end(self, work: Awaitable[None] | None = None) -> None:
        """Until ``work`` is done and all told. Raises OSError when the caller went away."""
        if work is not None:
            try:
                await work
            except Exception as error:  # the agent's queue, not the plugin: that one never raises
                self.tell(failure(error))
        if self._rest:
            await asyncio.get_running_loop().sock_sendall(self.connection, self._rest)

    def close(self) -> None:
        """Let go of it, and of the descriptors."""
        self.connection.close()
        for fd in self.held:
            os.close(fd)


def _only_root(connection: socket.socket) -> None:
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(raw)
    if uid != 0:
        raise CniError(ENVIRONMENT, f"the caller (process {pid}) is user {uid}; only root may attach pods")


async def _readable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(connection, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(connection)


def _receive_rights(connection: socket.socket, held: list[int]) -> bytes:
    """What is there; descriptors that come with it go into ``held``."""
    room = socket.CMSG_SPACE(_DESCRIPTORS * array.array("i").itemsize)
    data, rights, flags, _ = connection.recvmsg(_CHUNK, room, socket.MSG_CMSG_CLOEXEC)
    for level, kind, payload in rights:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found = array.array("i")
            found.frombytes(payload[: len(payload) - len(payload) % found.itemsize])
            held.extend(found)
    if flags & socket.MSG_CTRUNC:  # the kernel has dropped what did not fit
        raise wire.WireError(f"more than {_DESCRIPTORS} descriptors")
    if not data:
        raise EOFError("the message is cut off")
    return data


def _call(message: wire.Message, held: list[int]) -> Call:
    if not held or len(held) != len(message.descriptors):
        raise wire.WireError(f"{len(held)} descriptors came, {len(message.descriptors)} were announced")
    named = dict(zip(message.descriptors, held, strict=True))
    return Call(
        argv0=os.fsdecode(message.argv0),
        env={os.fsdecode(name): os.fsdecode(value) for name, value in message.env},
        path=os.fsdecode(message.path),
        stdin=message.stdin,
        caller_fd=named[wire.CALLER],
        pod_fd=named.get(wire.POD, -1),
        pod_errno=message.pod_errno,
    )


# --- the socket file --------------------------------------------------------------------------------


def _refuse_the_living(path: str) -> None:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise Conflict("something else than a socket is there", path, "remove it, or choose another --socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return
        except BlockingIOError:
            pass  # its queue is full: it lives
    raise Conflict("another agent listens", path, "stop it first, or choose another --socket")


def _listen(path: str) -> tuple[socket.socket, int]:
    """A socket that listens at ``path`` (mode 0600) and its inode.

    The mode is set before bind(2): on Linux the file takes it from the socket, less the umask. Who
    calls between unlink and listen finds nobody, runs in-process, finds the writer lock held by this
    agent and comes back."""
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        os.fchmod(listener.fileno(), 0o600)
        listener.bind(path)
        listener.listen(BACKLOG)
        return listener, os.lstat(path).st_ino
    except OSError as error:
        listener.close()
        raise Unavailable(f"can't make the socket: {error}", path, "choose another --socket") from None

"""A conversation between two pods, and for how long at a time nothing of it came through."""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import socket
import threading
import time
from types import TracebackType

from podway.kernel import namespaces

PORT, PACE = 7008, 0.005  # seconds between two questions
LAST = 0.5  # seconds that the last answers are waited for


class Talk:
    """Datagrams from pod ``client`` to ``address`` of pod ``server``, each answered by its own content.

    ``fresh``: each is a new connection, by a port of its own; else all are one that runs."""

    def __init__(self, client: str, server: str, address: str, fresh: bool) -> None:
        self._client, self._server, self._address, self._fresh = client, server, address, fresh
        self._ending, self._over = threading.Event(), threading.Event()
        self._sent: list[float] = []
        self._answered: set[int] = set()
        self._threads = [threading.Thread(target=one) for one in (self._answer, self._ask)]

    def __enter__(self) -> Talk:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        answering, asking = self._threads
        self._ending.set()
        asking.join()  # what was asked last is answered
        self._over.set()
        answering.join()

    @property
    def answered(self) -> int:
        """How many questions were answered so far."""
        return len(self._answered)

    @property
    def lost(self) -> int:
        """How many were not; asked when it has ended."""
        return len(self._sent) - len(self._answered)

    @property
    def gap(self) -> float:
        """The longest time in milliseconds between two questions that were answered."""
        times = [self._sent[number] for number in sorted(self._answered)]
        return 1000 * max((later - sooner for sooner, later in itertools.pairwise(times)), default=0.0)

    def _socket(self, pod: str) -> socket.socket:
        fd = namespaces.open_namespace(f"/run/netns/{pod}" if pod else namespaces.OWN)
        try:
            with namespaces.entered(fd):
                return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        finally:
            os.close(fd)

    def _answer(self) -> None:
        with self._socket(self._server) as server:
            server.settimeout(0.1)
            server.bind(("", PORT + self._fresh))
            while not self._over.is_set():
                with contextlib.suppress(TimeoutError):
                    question, source = server.recvfrom(100)
                    server.sendto(question, source)

    def _ask(self) -> None:
        sockets = {one.fileno(): one for one in [self._socket(self._client)]}
        poll = select.epoll()
        try:
            while not self._ending.is_set():
                if self._fresh:
                    asking = self._socket(self._client)
                    sockets[asking.fileno()] = asking
                else:
                    (asking,) = sockets.values()
                asking.setblocking(False)
                with contextlib.suppress(OSError):
                    poll.register(asking.fileno(), select.EPOLLIN)
                with contextlib.suppress(OSError):  # a firewall may refuse it at once
                    asking.sendto(str(len(self._sent)).encode(), (self._address, PORT + self._fresh))
                self._sent.append(time.monotonic())
                self._listen(poll, sockets, self._sent[-1] + PACE)
            self._listen(poll, sockets, time.monotonic() + LAST)
        finally:
            poll.close()
            for one in sockets.values():
                one.close()

    def _listen(self, poll: select.epoll, sockets: dict[int, socket.socket], until: float) -> None:
        while (left := until - time.monotonic()) > 0:
            for fd, _ in poll.poll(left):
                with contextlib.suppress(OSError):
                    self._answered.add(int(sockets[fd].recv(100)))

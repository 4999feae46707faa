"""Listening to the kernel, but not while a pod waits for its answer.

Wiring a pod makes a handful of events of the agent's own. Looked at while the writer thread still works, they
take turns with it at the interpreter's lock; looked at before the answer is sent, they delay it; looked at
right after it, they delay the next plugin of the pod's chain. They lose nothing by waiting in their sockets,
for ``LONGEST`` at most: what others do must be repaired.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping

LONGEST = 0.02  # seconds
NEXT = 0.002  # seconds after an answer in which a chain's next call comes


class Ears:
    """``readers``: descriptor → what reads it. All methods run on the event loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, readers: Mapping[int, Callable[[], None]]) -> None:
        self._loop = loop
        self._readers = readers
        self._listening = False
        self._waiting = 0
        self._again: asyncio.TimerHandle | None = None
        self._next: asyncio.TimerHandle | None = None

    def listen(self) -> None:
        """Read from now on; before it events wait, whatever pods do."""
        self._listening = True
        for timer in (self._again, self._next):
            if timer is not None:
                timer.cancel()
        self._again = self._next = None
        for fd, read in self._readers.items():
            self._loop.add_reader(fd, read)

    @contextlib.contextmanager
    def hushed(self) -> Iterator[None]:
        """While a pod waits. What follows soon, the answer and the next call, goes before the reading."""
        self._waiting += 1
        if self._next is not None:
            self._next.cancel()
            self._next = None
        if self._listening and self._waiting == 1 and self._again is None:
            for fd in self._readers:
                self._loop.remove_reader(fd)
            self._again = self._loop.call_later(LONGEST, self.listen)
        try:
            yield
        finally:
            self._waiting -= 1
            if not self._waiting and self._again is not None:
                self._next = self._loop.call_later(NEXT, self.listen)

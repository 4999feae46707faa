"""The one thread that writes to the kernel and the local database.

Jobs run one at a time, by priority and then in order of arrival: a pod that waits goes before a
repair, a repair before everything that can wait.
"""

from __future__ import annotations

import asyncio
import itertools
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

POD, REPAIR, BULK = 0, 1, 2
_STOP = 3

T = TypeVar("T")
_Job = tuple[int, int, Callable[[], Any] | None, "asyncio.Future[Any] | None"]


class Writer:
    """Give it functions from the event loop's thread; await their results."""

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str) -> None:
        self._loop = loop
        self._jobs: queue.PriorityQueue[_Job] = queue.PriorityQueue()
        self._number = itertools.count()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, priority: int, function: Callable[[], T]) -> asyncio.Future[T]:
        """Run ``function`` on the writer thread; the future has its result or exception."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._jobs.put((priority, next(self._number), function, future))
        return future

    @property
    def waiting(self) -> int:
        """Jobs not yet begun."""
        return self._jobs.qsize()

    def stop(self) -> None:
        """Finish what was submitted, then end the thread."""
        self._jobs.put((_STOP, next(self._number), None, None))
        self._thread.join()

    def _run(self) -> None:
        while True:
            _, _, function, future = self._jobs.get()
            if function is None or future is None:
                return
            try:
                result = function()
            except BaseException as error:
                self._settle(future, None, error)
            else:
                self._settle(future, result, None)

    def _settle(self, future: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
        def deliver() -> None:
            if future.cancelled():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)

        try:
            self._loop.call_soon_threadsafe(deliver)
        except RuntimeError:
            pass  # the loop is closed: nobody waits any more

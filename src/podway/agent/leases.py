"""The agent's ear at Flannel's leases: looks on a thread of its own, and a pass after one with news."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from podway.agent.writer import BULK, Writer
from podway.node.cluster import Cluster
from podway.node.flannel import FlannelParts
from podway.store.flannel import LeaseWatch

_log = logging.getLogger("podway.flannel")


class LeaseFollower:
    """Lives on the event loop; ``changed`` starts a pass, after which ``follow`` is to be called."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        parts: FlannelParts,
        cluster: Cluster,
        changed: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._parts = parts
        self._cluster = cluster
        self._changed = changed
        self._looker: Writer | None = None  # made where there is a network that needs it
        self._looking = False
        self._heard: dict[int, LeaseWatch] = {}  # by descriptor
        self._timer: asyncio.TimerHandle | None = None
        parts.begin()
        self.follow()

    def follow(self) -> None:
        """Look now, or when it is due; called when anything may have changed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self._parts.next_due(self._cluster.snapshot)
        if due is None or self._looking:
            return
        if due > time.time():
            self._timer = self._loop.call_later(due - time.time(), self.follow)
            return
        self._looking = True
        self._looker = self._looker or Writer(self._loop, "flannel")
        self._looker.submit(BULK, lambda: self._parts.look(self._cluster.snapshot)).add_done_callback(
            self._looked
        )

    def _looked(self, future: asyncio.Future[bool]) -> None:
        self._looking = False
        error = future.exception()
        if error is not None:
            _log.error("looking at Flannel's leases failed", exc_info=error)
        while self._parts.retired:
            self._drop(self._parts.retired.pop())
        for name, watch in self._parts.watches().items():
            if watch not in self._heard.values():
                self._heard[watch.fileno()] = watch
                self._loop.add_reader(watch.fileno(), self._event, name)
                self._loop.call_soon(self._event, name)  # what came while it was opened
        if error is None and future.result():
            self._changed()
        else:
            self.follow()

    def _event(self, name: str) -> None:
        if self._parts.heard(name):
            self.follow()

    def _drop(self, watch: LeaseWatch) -> None:
        for number in [number for number, one in self._heard.items() if one is watch]:
            self._loop.remove_reader(number)
            del self._heard[number]
        watch.close()

    def close(self) -> None:
        """Listen no more."""
        for number in list(self._heard):
            self._loop.remove_reader(number)
        self._heard.clear()
        if self._timer is not None:
            self._timer.cancel()
        if self._looker is not None:
            self._looker.stop()

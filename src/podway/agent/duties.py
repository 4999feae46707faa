"""The agent's part in what runs once a cluster: gives the controller its turns, and what it has to know."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from podway.controller.controller import Controller, Lease, Seen, has_work
from podway.model.errors import PodwayError
from podway.node.engine import NodeEngine
from podway.store.mirror import Mirror

LATER = 3.0  # seconds until a turn that failed, or could not be had, is tried again

_log = logging.getLogger("podway.controller")


def seen(engine: NodeEngine, failing: frozenset[str]) -> Seen | None:
    """What an agent knows of the cluster, should it act for it; None while it may not."""
    snapshot = engine.cluster.snapshot
    if not snapshot.synced or not engine.membership.standing.serves:
        return None
    return Seen(snapshot, bool(engine.planner.carries("bgp")), failing)


class Duties:
    """Lives on the event loop; turns run on the store's thread. ``seen`` None: nothing may be done now."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, node: str, mirror: Mirror, seen: Callable[[], Seen | None]
    ) -> None:
        self._loop = loop
        self._mirror = mirror
        self._seen = seen
        self._controller = Controller(node)
        self._timer: asyncio.TimerHandle | None = None
        self._turning = False
        self._again = False

    @property
    def lease(self) -> Lease:
        """As last seen."""
        return self._controller.lease

    def start(self) -> None:
        """Take part."""
        self._turn()

    def follow(self) -> None:
        """The cluster has changed: who acts for it looks at once; so do all where there was nothing to do."""
        if self._timer is not None and not self._controller.acts:
            return
        self._again = self._turning
        if not self._turning:
            self._turn()

    async def stop(self, patience: float) -> None:
        """Leave it to another."""
        if self._timer is not None:
            self._timer.cancel()
        self._turning = True
        if self._controller.acts:
            try:
                released = self._mirror.submit(self._controller.release)
                await asyncio.wait([asyncio.wrap_future(released)], timeout=patience)
            except PodwayError as error:
                _log.info("the lease is left to run out", extra={"why": str(error)})

    def _turn(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        seen = self._seen()
        if seen is None:
            self._later(LATER)
            return
        if not has_work(seen):
            return  # no lease is needed for nothing: nobody wakes, nobody writes
        try:
            future = self._mirror.submit(lambda store: self._controller.turn(store, seen))
        except PodwayError:  # the store is out of reach, as status says
            self._later(LATER)
            return
        self._turning = True
        asyncio.wrap_future(future).add_done_callback(self._turned)

    def _turned(self, future: asyncio.Future[float]) -> None:
        self._turning = False
        error = future.exception()
        if error is None:
            self._later(0.0 if self._again else max(0.05, future.result() - time.monotonic()))
        else:
            known = isinstance(error, PodwayError)
            _log.warning("a turn failed", extra={"why": str(error)}, exc_info=None if known else error)
            self._later(LATER)
        self._again = False

    def _later(self, seconds: float) -> None:
        self._timer = self._loop.call_later(seconds, self._turn)

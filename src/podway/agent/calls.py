"""CNI calls: carried out by the writer, ahead of all else, which tells the answer itself.

A runtime runs the plugins of a chain one after the other, each a call: what the loop does after an answer is
done while the next executable starts. Nothing that takes long is waited for on the writer's thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from podway.agent import metrics
from podway.agent.kernel_events import KernelEvents
from podway.agent.writer import POD, Writer
from podway.cni import dropin
from podway.cni.dropin.steps import Elsewhere, Others, Outcome, advance, drive_async
from podway.cni.plugin import handle
from podway.cni.protocol import Answer, Call
from podway.cni.server import Tell
from podway.node.engine import NodeEngine
from podway.store.mirror import Session

CLAIM = 15.0  # seconds that an ADD waits for its node's first block

T = TypeVar("T")


class Calls:
    """Made and asked on the event loop's thread. ``served`` is called after each."""

    def __init__(
        self,
        writer: Writer,
        events: KernelEvents,
        engine: NodeEngine,
        session: Session,
        served: Callable[[], object],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._writer = writer
        self._events = events
        self._engine = engine
        self._session = session
        self._served = served
        self._others = Others()

    def stop(self) -> None:
        """End other plugins' executables: their callers come back."""
        self._others.stop()

    async def carry_out(self, call: Call, tell: Tell) -> None:
        """Have a call's answer told."""
        answer = await (self._drop_in if dropin.name_of(call) else self._cluster_plugin)(call, tell)
        metrics.count_call(call, answer)
        self._served()

    async def _drop_in(self, call: Call, tell: Tell) -> Answer:
        steps = dropin.steps(call)

        def go_on(outcome: Outcome) -> Elsewhere | Answer:
            step = advance(steps, self._engine, outcome)
            if isinstance(step, Answer):
                tell(step)
            return step

        return await drive_async(lambda outcome: self._for_pod(lambda: go_on(outcome)), self._others)

    async def _cluster_plugin(self, call: Call, tell: Tell) -> Answer:
        answer, write = await self._for_pod(lambda: self._handle(call, tell))
        deadline = self._loop.time() + CLAIM
        while write is not None and self._loop.time() < deadline:
            hindrance = asyncio.wrap_future(write)
            done, _ = await asyncio.wait([hindrance], timeout=deadline - self._loop.time())
            if done:
                hindrance.exception()  # the call says what it means for it
            answer, write = await self._for_pod(lambda: self._handle(call, tell))
        if write is not None:
            tell(answer)
        return answer

    def _handle(self, call: Call, tell: Tell) -> tuple[Answer, Future[Any] | None]:
        """The answer, and the write to the store that stands in its way because it takes long: the answer
        isn't told then."""
        self._session.hindrance = None
        answer = handle(call, self._engine)
        if self._session.hindrance is None:
            tell(answer)
        return answer, self._session.hindrance

    async def _for_pod(self, job: Callable[[], T]) -> T:
        with self._events.hushed():
            return await self._writer.submit(POD, job)

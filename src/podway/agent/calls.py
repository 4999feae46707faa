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
from podway.cni import plugin
from podway.cni.protocol import Answer, Call
from podway.cni.server import Tell
from podway.cni.steps import Elsewhere, Others, Outcome, advance, drive_async
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
        deadline = self._loop.time() + CLAIM
        answer, write = await self._attempt(call, tell)
        while write is not None and self._loop.time() < deadline:
            hindrance = asyncio.wrap_future(write)
            done, _ = await asyncio.wait([hindrance], timeout=deadline - self._loop.time())
            if done:
                hindrance.exception()  # the call says what it means for it
            answer, write = await self._attempt(call, tell)
        if write is not None:
            tell(answer)
        metrics.count_call(call, answer)
        self._served()

    async def _attempt(self, call: Call, tell: Tell) -> tuple[Answer, Future[Any] | None]:
        """The answer, and the write to the store that stands in its way because it takes long: the answer
        isn't told then."""
        steps = plugin.steps(call)
        hindrance: Future[Any] | None = None

        def go_on(outcome: Outcome) -> Elsewhere | Answer:
            nonlocal hindrance
            self._session.hindrance = None
            step = advance(steps, self._engine, outcome)
            hindrance = self._session.hindrance
            if isinstance(step, Answer) and hindrance is None:
                tell(step)
            return step

        answer = await drive_async(lambda outcome: self._for_pod(lambda: go_on(outcome)), self._others)
        return answer, hindrance

    async def _for_pod(self, job: Callable[[], T]) -> T:
        with self._events.hushed():
            return await self._writer.submit(POD, job)

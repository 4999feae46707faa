"""Kernel events wait while a pod does, but not for ever, and what follows the wait goes before them."""

from __future__ import annotations

import asyncio
import os

import pytest

from podway.agent import ears
from podway.agent.ears import Ears


class Pipe:
    """A descriptor that is readable, and a reader that empties it and notes that it did."""

    def __init__(self, loop: asyncio.AbstractEventLoop, order: list[str]) -> None:
        self.out, self.into = os.pipe()
        self.order = order
        self.ears = Ears(loop, {self.out: self.read})

    def say(self) -> None:
        os.write(self.into, b"!")

    def read(self) -> None:
        os.read(self.out, 100)
        self.order.append("heard")

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self.out)
        os.close(self.out)
        os.close(self.into)


async def _turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def _until(order: list[str], count: int) -> None:
    while len(order) < count:
        await asyncio.sleep(ears.NEXT)


def test_what_comes_while_a_pod_waits_is_heard_after_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with several pods at once: after the last."""
    monkeypatch.setattr(ears, "LONGEST", 60.0)

    async def scene() -> list[str]:
        order: list[str] = []
        pipe = Pipe(asyncio.get_running_loop(), order)
        pipe.ears.listen()
        with pipe.ears.hushed():
            with pipe.ears.hushed():
                pipe.say()
                await _turns()
            await _turns()
            assert order == []
        order.append("answered")
        await _until(order, 2)
        pipe.say()
        await _turns()
        pipe.close()
        return order

    assert asyncio.run(scene()) == ["answered", "heard", "heard"]


def test_the_next_call_of_a_chain_goes_before_what_the_last_one_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ears, "LONGEST", 60.0)
    monkeypatch.setattr(ears, "NEXT", 0.3)

    async def scene() -> list[str]:
        order: list[str] = []
        pipe = Pipe(asyncio.get_running_loop(), order)
        pipe.ears.listen()
        for call in ("first", "second"):
            with pipe.ears.hushed():
                pipe.say()
                await _turns()
                order.append(call)
            await _turns()
        await _until(order, 3)
        pipe.close()
        return order

    assert asyncio.run(scene()) == ["first", "second", "heard"]


def test_a_chain_of_calls_is_not_read_into(monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts from the last answer, not from the first."""
    monkeypatch.setattr(ears, "LONGEST", 60.0)

    async def scene() -> list[str]:
        order: list[str] = []
        loop, now = asyncio.get_running_loop(), [0.0]
        monkeypatch.setattr(loop, "time", lambda: now[0])
        pipe = Pipe(loop, order)
        pipe.ears.listen()
        for call in ("first", "second", "third"):
            with pipe.ears.hushed():
                pipe.say()
                await _turns()
                order.append(call)
            now[0] += ears.NEXT * 0.7
            await _turns()
        now[0] += ears.NEXT * 0.7
        await _turns()
        pipe.close()
        return order

    assert asyncio.run(scene()) == ["first", "second", "third", "heard"]


def test_a_pod_that_waits_long_is_not_waited_for() -> None:
    """A storm of pods must not keep repairs away."""

    async def scene() -> list[str]:
        order: list[str] = []
        pipe = Pipe(asyncio.get_running_loop(), order)
        pipe.ears.listen()
        with pipe.ears.hushed():
            pipe.say()
            while not order:
                await asyncio.sleep(ears.LONGEST / 4)
        pipe.say()
        await _turns()
        pipe.close()
        return order

    assert asyncio.run(scene()) == ["heard", "heard"]


def test_nothing_is_heard_before_it_is_listened_to() -> None:
    """A pod that is served while the agent still starts must not open its ears: nobody follows yet."""

    async def scene() -> list[str]:
        order: list[str] = []
        pipe = Pipe(asyncio.get_running_loop(), order)
        pipe.say()
        with pipe.ears.hushed():
            await _turns()
        await asyncio.sleep(2 * ears.LONGEST)
        order.append("started")
        pipe.ears.listen()
        await _turns()
        pipe.close()
        return order

    assert asyncio.run(scene()) == ["started", "heard"]

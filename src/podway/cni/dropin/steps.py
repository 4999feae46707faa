"""What a drop-in plugin's call consists of, and who carries it out.

A plugin is a generator: it yields what is to be done outside of it, a ``Work`` on the engine or the ``Run``
of another plugin's executable, and gets the outcome sent in or the exception thrown in. So the same plugin
is driven by the agent (its writer thread works, other threads wait for executables) and without one.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Awaitable, Callable, Generator
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from podway.cni.errors import IO, LATER, CniError
from podway.cni.protocol import Answer

if TYPE_CHECKING:
    from podway.node.engine import NodeEngine

TIMEOUT = 60.0  # seconds that an executable may take


class Work(msgspec.Struct, frozen=True):
    """To be done by the one writer of the node; its outcome is what ``do`` returns or raises."""

    do: Callable[[NodeEngine], Any]


class Run(msgspec.Struct, frozen=True):
    """An executable to be run; the outcome is what it prints. Raises CniError as it says itself."""

    path: str
    env: dict[str, str]
    stdin: bytes


class Pause(msgspec.Struct, frozen=True):
    """Some seconds to wait, while the writer does other things."""

    seconds: float


Step = Work | Run | Pause
T = TypeVar("T")
Steps = Generator[Step, Any, T]


def _next(steps: Steps[Answer], outcome: object, error: Exception | None) -> Step | Answer:
    """What is to be done next, or the answer."""
    try:
        return steps.send(outcome) if error is None else steps.throw(error)
    except StopIteration as end:
        answer: Answer = end.value
        return answer


def drive(steps: Steps[Answer], engine: NodeEngine) -> Answer:
    """Carry out a call in this thread."""
    outcome: Any = None
    error: Exception | None = None
    while True:
        step = _next(steps, outcome, error)
        if isinstance(step, Answer):
            return step
        outcome = error = None
        try:
            outcome = step.do(engine) if isinstance(step, Work) else carry_out(step)
        except Exception as raised:
            error = raised


async def drive_async(
    steps: Steps[Answer],
    work: Callable[[Work], Awaitable[Any]],
    others: Callable[[Run | Pause], Awaitable[Any]],
) -> Answer:
    """The same, where what is to be done is awaited."""
    outcome: Any = None
    error: Exception | None = None
    while True:
        step = _next(steps, outcome, error)
        if isinstance(step, Answer):
            return step
        outcome = error = None
        try:
            outcome = await (work(step) if isinstance(step, Work) else others(step))
        except Exception as raised:
            error = raised


def carry_out(step: Run | Pause) -> bytes:
    """What needs no engine; it blocks the thread."""
    if isinstance(step, Run):
        return run(step)
    time.sleep(step.seconds)
    return b""


def run(step: Run) -> bytes:
    """What an executable prints. Raises CniError with its own code and words, or 5 or 11."""
    import subprocess  # slow to import, and only foreign executables need it

    name = os.path.basename(step.path)
    try:
        done = subprocess.run(
            [step.path], input=step.stdin, env=step.env, capture_output=True, timeout=TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        raise CniError(LATER, f"plugin {name} did not end within {TIMEOUT:.0f} s", step.path) from None
    except OSError as error:
        raise CniError(IO, f"plugin {name} can't be executed: {error.strerror}", step.path) from None
    if done.returncode == 0:
        return done.stdout
    try:
        told = json.loads(done.stdout)
        raise CniError(int(told["code"]), f"plugin {name}: {told['msg']}", str(told.get("details", "")))
    except (ValueError, KeyError, TypeError):
        words = done.stderr.decode(errors="replace").strip()[-500:] or f"exit code {done.returncode}"
        raise CniError(IO, f"plugin {name} failed: {words}", step.path) from None

"""What a call consists of, and who carries it out.

A plugin is a generator: it yields what is to be done outside of it, a ``Work`` on the engine or the ``Run``
of another plugin's executable, and gets the outcome sent in or the exception thrown in. So the same plugin
is driven by the agent (its writer thread works, other threads wait for executables) and without one.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import time
from collections.abc import Awaitable, Callable, Generator
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from podway.cni.errors import IO, LATER, CniError
from podway.cni.protocol import Answer
from podway.model.errors import Lost

if TYPE_CHECKING:
    import subprocess

    from podway.node.engine import NodeEngine

TIMEOUT = 60.0  # seconds that an executable may take
REPAIR, PAUSE = 1.0, 0.05  # seconds that a repair may take, and between looks


class Work(msgspec.Struct, frozen=True):
    """To be done by the one writer of the node; its outcome is what ``do`` returns or raises."""

    do: Callable[[NodeEngine], Any]


class Run(msgspec.Struct, frozen=True):
    """An executable to be run; the outcome is what it prints. Raises CniError as it says itself."""

    path: str
    env: dict[str, str]
    stdin: bytes


class Aside(msgspec.Struct, frozen=True):
    """What takes seconds and needs no engine; its outcome is what ``do`` returns or raises."""

    do: Callable[[], Any]


class Pause(msgspec.Struct, frozen=True):
    """Some seconds to wait, while the writer does other things."""

    seconds: float


Elsewhere = Run | Pause | Aside
Step = Work | Elsewhere
T = TypeVar("T")
Steps = Generator[Step, Any, T]


def looked(look: Callable[[NodeEngine], object]) -> Steps[None]:
    """CHECK, which an agent serves before its repair of what a CHECK looks for: once that had its time."""
    waited = 0.0
    while True:
        try:
            yield Work(look)
            return
        except Lost:
            if waited > REPAIR:
                raise
        yield Pause(PAUSE)
        waited += PAUSE


class Outcome(msgspec.Struct, frozen=True):
    """What became of a step: what it gave, or what it raised."""

    value: Any = None
    error: Exception | None = None

    @classmethod
    def of(cls, work: Callable[[], Any]) -> Outcome:
        """Of doing ``work``."""
        try:
            return cls(work())
        except Exception as error:
            return cls(error=error)


def advance(steps: Steps[Answer], engine: NodeEngine, outcome: Outcome) -> Elsewhere | Answer:
    """On the writer's thread: go on with the outcome of what was done elsewhere (at first an empty one), to
    the answer or to the next that the writer must not wait for."""
    while True:
        try:
            step = steps.send(outcome.value) if outcome.error is None else steps.throw(outcome.error)
        except StopIteration as end:
            answer: Answer = end.value
            return answer
        if not isinstance(step, Work):
            return step
        outcome = Outcome.of(functools.partial(step.do, engine))


def drive(steps: Steps[Answer], engine: NodeEngine) -> Answer:
    """Carry out a call in this thread."""
    others, outcome = Others(), Outcome()
    while not isinstance(step := advance(steps, engine, outcome), Answer):
        outcome = Outcome.of(functools.partial(others.carry_out, step))
    return step


async def drive_async(go_on: Callable[[Outcome], Awaitable[Elsewhere | Answer]], others: Others) -> Answer:
    """The same, where the writer is awaited, which goes on; ``others`` works on threads of its own."""
    import asyncio  # only an agent has it

    step = await go_on(Outcome())
    while not isinstance(step, Answer):
        outcome = await asyncio.to_thread(Outcome.of, functools.partial(others.carry_out, step))
        step = await go_on(outcome)
    return step


class Others:
    """Carries out what needs no engine, each on the caller's thread."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    def carry_out(self, step: Elsewhere) -> Any:
        """What an executable prints. Raises CniError with its own code and words, or 5 or 11."""
        if isinstance(step, Aside):
            if self._stopped:
                raise CniError(LATER, "the agent stops")
            return step.do()
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return b""
        name = os.path.basename(step.path)
        process = self._begin(step, name)
        try:
            printed, said = process.communicate(step.stdin, TIMEOUT)
        except Exception:
            _end(process)
            raise CniError(LATER, f"plugin {name} did not end within {TIMEOUT:.0f} s", step.path) from None
        finally:
            self._running.discard(process)
        if self._stopped and process.returncode < 0:
            raise CniError(LATER, f"plugin {name} was ended: the agent stops", step.path)
        if process.returncode:
            raise _refusal(name, step.path, printed, said, process.returncode)
        return printed

    def _begin(self, step: Run, name: str) -> subprocess.Popen[bytes]:
        import subprocess  # slow to import, and only foreign executables need it

        try:
            # a session of its own: whatever it starts ends with it
            process = subprocess.Popen(
                [step.path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=step.env,
                start_new_session=True,
            )
        except OSError as error:
            raise CniError(IO, f"plugin {name} can't be executed: {error.strerror}", step.path) from None
        self._running.add(process)
        if self._stopped:
            _end(process)
        return process

    def stop(self) -> None:
        """End those that run, and let no more begin: their callers come back."""
        self._stopped = True
        for process in tuple(self._running):
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _refusal(name: str, path: str, printed: bytes, said: bytes, exit_code: int) -> CniError:
    """What an executable that failed says: its error document, or its last words."""
    try:
        told = json.loads(printed)
        return CniError(int(told["code"]), f"plugin {name}: {told['msg']}", str(told.get("details", "")))
    except (ValueError, KeyError, TypeError):
        words = said.decode(errors="replace").strip()[-500:] or f"exit code {exit_code}"
        return CniError(IO, f"plugin {name} failed: {words}", path)

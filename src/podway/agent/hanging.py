"""Tells a BIRD that hangs from one that is busy. Neither answers; but who is busy uses a processor, or waits
for one or for a disk, and who hangs does nothing at all though it is asked.

One that hangs for longer than ``hold`` is dropped by its peers, routes and all: to be killed and started anew
before costs nothing, for that is a graceful restart.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from podway.model.errors import Unavailable

WINDOW, WINDOWS = 0.5, 3  # seconds, and how many of them in a row nothing may be done in
LATE = 0.25  # seconds by which a window may be over-long: else it is this process that isn't let run
IDLE_STATES = "STt"  # proc(5): sleeping, stopped, traced

T = TypeVar("T")
Pulse = tuple[tuple[str, ...], ...] | None


class Hanging(Unavailable):
    """Of a process that does nothing, and doesn't answer."""


def pulse(pid: int) -> Pulse:
    """What changes when any thread of a process does something: time on a processor, time waiting for one,
    how often (proc(5) schedstat). None while one runs, wants to, or waits for a disk; or isn't to be seen."""
    found = []
    try:
        for task in sorted(Path(f"/proc/{pid}/task").iterdir()):
            state = (task / "stat").read_text().rpartition(")")[2].split()[0]
            if state not in IDLE_STATES:
                return None
            found.append((task.name, state, *(task / "schedstat").read_text().split()))
    except OSError:
        return None
    return tuple(found) or None


async def answer(question: Coroutine[Any, Any, T], beat: Callable[[], Pulse]) -> T:
    """What the question brings. Raises ``Hanging`` for one whose pulse stands still meanwhile."""
    asking = asyncio.ensure_future(question)
    still = 0
    try:
        while still < WINDOWS:
            before, began = beat(), time.monotonic()
            done, _ = await asyncio.wait({asking}, timeout=WINDOW)
            if done:
                return asking.result()
            in_time = time.monotonic() - began < WINDOW + LATE
            still = still + 1 if in_time and before is not None and before == beat() else 0
        raise Hanging(f"BIRD does nothing, and has not answered for {WINDOW * WINDOWS:.1f} s")
    finally:
        asking.cancel()

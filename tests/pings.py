"""A ping every 10 ms, and which of its packets got no answer."""

from __future__ import annotations

import re
import signal
import subprocess
import tempfile
from collections.abc import Sequence

PATIENCE = 30.0


class Pings:
    """Runs from its making on, in the thread's network namespace or by ``enter``, which needs ``fds``.

    What it says goes to a file: a pipe that nobody reads would stop it."""

    def __init__(self, *arguments: str, enter: Sequence[str] = (), fds: Sequence[int] = ()) -> None:
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115 (lost closes it)
        command = [*enter, "ping", "-i", "0.01", *arguments]
        self._running = subprocess.Popen(command, stdout=self._said, pass_fds=fds)

    def lost(self, least: int = 10) -> list[int]:
        """End it: the numbers that got no answer, but the last, which may be on its way.

        Raises AssertionError when no more than ``least`` were sent."""
        self._running.send_signal(signal.SIGINT)
        self._running.wait(PATIENCE)
        with self._said:
            self._said.seek(0)
            words = self._said.read()
        (sent,) = map(int, re.findall(r"(\d+) packets transmitted", words))
        assert sent > least, words
        answered = {int(number) for number in re.findall(r"icmp_seq=(\d+) ttl", words)}
        return sorted(set(range(1, sent)) - answered)

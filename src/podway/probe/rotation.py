"""Whose turn it is to be probed: a rotating sample, whose cost does not grow with the cluster. Pure.

Every peer has its turn each ``interval(n)`` seconds: 2 in a small cluster, n / RATE in a large one (a
thousand nodes: 200 s). Turns that come within one ``STEP`` are taken together: to be woken is what costs.
Rounds never start faster than RATE a second, diagnoses included; until every peer was asked once,
SWEEP_RATE. A cluster of n nodes asks each of them n times an interval, so that a node that dies among a
thousand is seen by some of its peers within a second.
"""

from __future__ import annotations

import heapq
import zlib
from collections.abc import Collection

RATE = 5.0  # rounds a second, at most
SWEEP_RATE = 25.0  # rounds a second while the first sweep lasts
STEP = 1.0  # seconds from one moment at which turns come to the next
SHORTEST = 2.0  # seconds between two turns of a peer that is well
RUNS = -1.0  # in place of a time: a round runs, and ``again`` comes


def interval(peers: int) -> float:
    """Seconds from one turn of a peer to its next."""
    return max(SHORTEST, peers / RATE)


def sweep(peers: int) -> float:
    """Seconds that asking all of them once takes."""
    return peers / SWEEP_RATE


class Rotation:
    """Give it the peers; ask whose turn it is. Times are of a monotonic clock."""

    def __init__(self) -> None:
        self._due: list[tuple[float, str]] = []
        self._turn: dict[str, float] = {}  # peer → when it is due, as in the heap
        self._asked: set[str] = set()
        self._spread: set[str] = set()
        self._free = 0.0
        self._phase: float | None = None  # of the steps: not every node's at once

    def __len__(self) -> int:
        return len(self._turn)

    def __contains__(self, peer: object) -> bool:
        return peer in self._turn

    def update(self, peers: Collection[str], now: float) -> None:
        """Peers that are new are due at once; those gone are forgotten."""
        self._phase = now % STEP if self._phase is None else self._phase
        for gone in self._turn.keys() - set(peers):
            del self._turn[gone]
            self._asked.discard(gone)
            self._spread.discard(gone)
        for new in sorted(set(peers) - self._turn.keys()):
            self._push(new, now)

    def _push(self, peer: str, at: float) -> None:
        self._turn[peer] = at
        heapq.heappush(self._due, (at, peer))

    def _drop_stale(self) -> None:
        while self._due and self._turn.get(self._due[0][1]) != self._due[0][0]:
            heapq.heappop(self._due)

    def next_at(self) -> float | None:
        """When to ask ``take`` again; None without peers."""
        self._drop_stale()
        return max(self._due[0][0], self._free) if self._due else None

    def take(self, now: float) -> str | None:
        """The peer whose round starts now, None while nobody may."""
        at = self.next_at()
        if at is None or at > now:
            return None
        _, peer = heapq.heappop(self._due)
        sweeping = len(self._asked) < len(self._turn)
        self._free = max(self._free, now - 1.0) + 1.0 / (SWEEP_RATE if sweeping else RATE)
        self._turn[peer] = RUNS
        self._asked.add(peer)
        return peer

    def again(self, peer: str, now: float, settled: bool) -> None:
        """A round has ended: the next is a turn later, or at once when something is left to find out."""
        if peer not in self._turn:
            return  # it has gone meanwhile
        if not settled:
            self._push(peer, now)
            return
        wait = interval(len(self._turn))
        if peer not in self._spread:
            # The first turns came as fast as allowed; the next ones are to be spread over the interval.
            self._spread.add(peer)
            wait *= zlib.crc32(peer.encode()) / 2**32
        self._push(peer, self._step_at(now + wait))

    def _step_at(self, at: float) -> float:
        """The step nearest to a time."""
        phase = self._phase or 0.0
        return phase + round((at - phase) / STEP) * STEP

    def now(self, peer: str, at: float) -> None:
        """Its turn is now. Nothing while its round runs."""
        if self._turn.get(peer, RUNS) != RUNS:
            self._push(peer, at)

"""How soon news from the store is taken in again. Pure.

A few changes in a row are each taken in at once: a node that joins is three or four. In a storm - a
hundred nodes that start together - every change would cost every node a look at the whole cluster; so
the longer news keep coming, the longer they are gathered, by a multiple of what a round costs here.
"""

from __future__ import annotations

AT_ONCE = 4  # rounds in a row without a rest
MOST = 8  # of rest, in rounds
LONGEST = 1.0  # seconds that news may wait
QUIET = 0.5  # seconds without a round end a storm


class Pace:
    """Asked after every round."""

    def __init__(self) -> None:
        self._row = 0
        self._last = float("-inf")

    def rest(self, started: float, ended: float) -> float:
        """Seconds to wait after a round before the next, which takes in all that came meanwhile."""
        self._row = self._row + 1 if started - self._last < QUIET else 1
        rest = min((ended - started) * min(max(self._row - AT_ONCE, 0), MOST), LONGEST)
        self._last = ended + rest
        return rest

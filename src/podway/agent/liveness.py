"""Whose agent isn't heard of any more: for status and journal only, never a reason to remove anything.

A node that has told of its ways lives while its Alive object stands in the store; that hangs on a lease,
and goes by itself when the agent stops renewing it, whether it died, hangs or can't reach the store.
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec


class Liveness(msgspec.Struct, frozen=True):
    """``suspect``: nodes that told of themselves and aren't heard of, as far as the store says."""

    suspect: frozenset[str] = frozenset()

    def step(self, registered: Collection[str], alive: Collection[str] | None) -> Liveness:
        """``alive`` None: not known now, and then nothing changes. Pure."""
        if alive is None:
            return self
        return Liveness(frozenset(registered).difference(alive))


def changes(before: Liveness, after: Liveness, registered: Collection[str]) -> list[tuple[str, str]]:
    """(node, "suspect" or "alive") for each that turned; one that left the cluster is neither."""
    lost = [(node, "suspect") for node in sorted(after.suspect - before.suspect)]
    back = before.suspect - after.suspect
    return lost + [(node, "alive") for node in sorted(back) if node in registered]

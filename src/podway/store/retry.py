"""When to try again what is out of reach: rarer and rarer, and never all at the same moment. Pure."""

from __future__ import annotations

import msgspec

FIRST = 0.5  # seconds
#: a server that a whole fleet comes back to; a file of this machine, and a store that nobody made yet
FAR, NEAR = 15.0, 2.0


class Retry(msgspec.Struct, frozen=True):
    """How often it failed since it last worked."""

    failures: int = 0

    def failed(self) -> Retry:
        """Once more."""
        return Retry(self.failures + 1)

    def delay(self, limit: float, chance: float) -> float:
        """Seconds to wait, 0.2 to 1 times the step; ``chance`` is random in [0, 1)."""
        step = min(limit, FIRST * 2.0 ** min(self.failures - 1, 10))
        return step * (0.2 + 0.8 * chance)

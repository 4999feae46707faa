"""When to stop mending one key over and over: a pure state machine per key.

A handful of quick repairs is normal life. Somebody who undoes each of them is a fight, and winning it
costs both sides a core: after ``FREE`` repairs within ``WINDOW`` seconds every further one waits twice as
long as the one before, up to ``LONGEST``. A key left alone for ``LONGEST`` seconds starts anew.
"""

from __future__ import annotations

import msgspec

FREE = 5
WINDOW = 10.0
FIRST_WAIT = 1.0
LONGEST = 60.0


class Fight(msgspec.Struct, frozen=True):
    """The recent repairs of one key (times in seconds) and how long the next one must wait."""

    recent: tuple[float, ...] = ()
    wait: float = 0.0

    @property
    def allowed_at(self) -> float:
        """From when on the key may be repaired again."""
        return (self.recent[-1] if self.recent else 0.0) + self.wait


def repaired(state: Fight, now: float) -> Fight:
    """The state after one more repair at ``now``."""
    if state.recent and now - state.recent[-1] >= LONGEST + state.wait:
        state = Fight()
    recent = (*(t for t in state.recent if now - t < WINDOW), now)[-FREE:]
    if state.wait:
        return Fight(recent, min(LONGEST, state.wait * 2))
    return Fight(recent, FIRST_WAIT if len(recent) >= FREE else 0.0)

"""Times as people read them."""

from __future__ import annotations

import time


def ago(at: float) -> str:
    """How long ago ``at`` was, seconds since 1970: "45s", "3m5s", "2h10m", "4d3h"; "-" for 0."""
    if not at:
        return "-"
    return _span(time.time() - at)


def until(at: float) -> str:
    """How long until ``at``, in the same words; "-" when it is over."""
    left = at - time.time()
    return _span(left) if left > 0 else "-"


def _span(length: float) -> str:
    minutes, seconds = divmod(max(0, int(length)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d{hours}h"
    return f"{hours}h{minutes}m" if hours else f"{minutes}m{seconds}s" if minutes else f"{seconds}s"

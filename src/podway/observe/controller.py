"""Who acts for the cluster and what was done, in words."""

from __future__ import annotations

import time

from podway.controller.controller import Lease

SHOWN = 3  # of the newest deeds


def lines(lease: Lease) -> list[str]:
    """For ``podway status``; [] before anybody has the lease."""
    if not lease.holder:
        return []
    said = [f"for the cluster acts: {lease.holder} (renewed {_ago(lease.renewed)}, term {lease.term:.0f} s)"]
    said += [f"  {_ago(deed.at)}: {deed.what}" for deed in lease.deeds[-SHOWN:]]
    if lease.waits:
        more = ", …" if len(lease.waits) > SHOWN else ""
        said.append(f"  a change of sessions waits for {', '.join(lease.waits[:SHOWN])}{more}")
    return said


def _ago(at: float) -> str:
    seconds = max(0.0, time.time() - at)
    return f"{seconds:.0f} s ago" if seconds < 600 else f"{seconds / 60:.0f} min ago"

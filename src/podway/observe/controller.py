"""Who acts for the cluster and what was done, in words."""

from __future__ import annotations

from podway.controller.controller import Lease
from podway.observe.words import ago

SHOWN = 3  # of the newest deeds


def lines(lease: Lease) -> list[str]:
    """For ``podway status``; [] before anybody has the lease."""
    if not lease.holder:
        return []
    renewed = f"renewed {ago(lease.renewed)} ago, term {lease.term:.0f} s"
    said = [f"for the cluster acts: {lease.holder} ({renewed})"]
    said += [f"  {ago(deed.at)} ago: {deed.what}" for deed in lease.deeds[-SHOWN:]]
    if lease.waits:
        more = ", …" if len(lease.waits) > SHOWN else ""
        said.append(f"  a change of sessions waits for {', '.join(lease.waits[:SHOWN])}{more}")
    return said

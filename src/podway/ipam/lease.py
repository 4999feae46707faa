"""When a DHCP lease has to be asked for again, and how. Pure; times are in seconds since boot."""

from __future__ import annotations

from typing import Literal

from podway.model.dropin import Leased

Action = Literal["renew", "rebind", "expired"]
_LEAST = 60.0  # seconds between two questions, RFC 2131 section 4.4.5; of short leases a part
_PART = 20


def due(lease: Leased) -> float:
    """When something is to be done next. A question without an answer is repeated after half of what is left
    until the next stage."""
    if lease.asked_at < lease.renew_at:
        return lease.renew_at
    limit = lease.rebind_at if lease.asked_at < lease.rebind_at else lease.expires_at
    least = min(_LEAST, (lease.expires_at - lease.obtained_at) / _PART)
    return min(lease.asked_at + max(least, (limit - lease.asked_at) / 2), limit)


def action(lease: Leased, now: float) -> Action:
    """What is to be done now that it is due: ask its server, ask all servers, or stop using the address."""
    if now >= lease.expires_at:
        return "expired"
    return "rebind" if now >= lease.rebind_at else "renew"

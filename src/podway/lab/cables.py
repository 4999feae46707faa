"""Names of the links that a lab's segments are made of. Pure."""

from __future__ import annotations

import hashlib

IFNAMSIZ = 15


def short(name: str) -> str:
    """``name`` if it can be a link's, else its beginning and a hash."""
    return name if len(name) <= IFNAMSIZ else f"{name[:8]}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def bridge(segment: str) -> str:
    """The link that a segment is."""
    return short(f"br-{segment}")


def plug(machine: str, number: int) -> str:
    """The segment's end of a machine's link."""
    return short(f"{machine}-e{number}")

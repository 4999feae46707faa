"""What is to be said of the DHCP leases of pods: as a table, and as problems with what to do. Pure."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec

from podway.model.dropin import Leased, Piece
from podway.plan.notes import Note

POD_GONE = "its pod is gone"


class LeaseReport(msgspec.Struct, frozen=True, kw_only=True):
    """One lease; times are in seconds since 1970. ``server``: who lent it. ``renews``: when it is asked for
    more time (or was first, while it is silent). ``ends``: when the address may not be used any more."""

    container: str
    interface: str
    network: str
    address: str
    gateway: str
    server: str
    state: Literal["held", "unanswered", "lost"]
    why: str
    obtained: float
    renews: float
    ends: float


def reports(pieces: Iterable[Piece], since_boot: float, now: float) -> list[LeaseReport]:
    """Of all leases, at a moment in seconds since boot and since 1970: by container and interface."""
    found = ((piece, piece.want) for piece in pieces if isinstance(piece.want, Leased))
    made = [_report(piece, lease, now - since_boot) for piece, lease in found]
    return sorted(made, key=lambda one: (one.container, one.interface))


def _report(piece: Piece, lease: Leased, boot: float) -> LeaseReport:
    unanswered = lease.asked_at >= lease.renew_at  # an answer would have moved it
    return LeaseReport(
        container=piece.container,
        interface=piece.ifname,
        network=piece.configuration,
        address=lease.address,
        gateway=lease.gateway,
        server=lease.server,
        state="lost" if lease.lost else "unanswered" if unanswered else "held",
        why=lease.lost,
        obtained=boot + lease.obtained_at,
        renews=boot + lease.renew_at,
        ends=boot + lease.expires_at,
    )


def notes(leases: Iterable[LeaseReport]) -> Iterator[Note]:
    """Of those that are lost or about to be; where the pod itself is gone, its DEL is all that is missing."""
    for one in leases:
        who = f"container {one.container[:12]} interface {one.interface} network {one.network}"
        lent = f"lease of {one.address} from server {one.server}"
        if one.state == "lost" and one.why != POD_GONE:
            reason = f"its DHCP {lent} ended at {_stamp(one.ends)}, for {one.why}; the interface is down"
            yield Note(who, reason, "start the container again: it asks for a new one")
        elif one.state == "unanswered":
            reason = f"its DHCP {lent} is not extended since {_stamp(one.renews)}, for nobody answers"
            fix = "see that the server runs, and is reached on the pod's segment"
            yield Note(who, f"{reason}; it ends at {_stamp(one.ends)}", fix)


def _stamp(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))

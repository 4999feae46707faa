"""Named points between two steps, where a test can have the process killed.

``PODWAY_FAULT=add.journalled`` ends the process by SIGKILL when it reaches that point: exactly what a
runtime's timeout or the out-of-memory killer does.
"""

from __future__ import annotations

import os
import signal

#: every point, in the order in which a pod's life reaches them
POINTS = (
    "add.begin",
    "add.claimed",  # a block was claimed in the store
    "add.journalled",  # the intent is written, the kernel untouched
    "add.wired",  # the host's side stands
    "add.inside",  # the pod's side stands
    "add.finished",  # written as ready, not yet answered
    "delete.begin",
    "delete.journalled",
    "delete.detached",  # nothing routes to the pod any more
    "delete.buried",  # links are gone
    "delete.finished",
)

#: those that only a link has that stands in the pod alone, and what puts something back in there
INSIDE_POINTS = (
    "inside.begun",  # the link has a passing name
    "inside.made",  # it has its own, and no settings yet
    "inside.undone",  # it is gone, or moved back; what was changed inside the pod is as it was
)

#: those of a DEL or GC that frees what the reference plugins made
TAKEOVER_POINTS = (
    "takeover.noted",  # in the journal, nothing is touched
    "takeover.nft",  # rules and chains of nftables are gone
    "takeover.legacy",  # those of the first table of iptables-legacy that had some
    "takeover.shaper",  # the device by which bandwidth held back
    "takeover.link",  # the interface is gone, or moved back
    "takeover.zone",  # firewalld has the addresses in no zone
)

#: the same of addresses that nodes lend each other, where there is no block left
LENDING_POINTS = (
    "lend.kept",  # kept back, nobody was told
    "lend.told",  # the store says so, or says so no more
    "borrow.created",  # the Borrow is there, the block was not looked at since
    "borrow.looked",  # it is this node's
    "borrow.returned",  # the Borrow is gone
)

_armed = os.environ.get("PODWAY_FAULT", "")


def reach(point: str) -> None:
    """End the process here if this is the armed point."""
    if _armed and _armed == point:
        os.kill(os.getpid(), signal.SIGKILL)

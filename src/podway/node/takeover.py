"""Freeing what the reference plugins made, for pods that were there before Podway took their names.

Nothing of it is kept here: by the reference's naming it is found in the kernel again, so that whoever comes
after a crash does the rest. Each is entered in the journal before it is touched.
"""

from __future__ import annotations

import time

from podway.kernel import foreign_rules
from podway.kernel.facade import Kernel
from podway.model.objects import Op
from podway.node import wiring
from podway.node.database import Database, JournalEntry
from podway.plan.dropin import foreign
from podway.plan.dropin.foreign import Attached


def free(kernel: Kernel, database: Database, of: Attached, namespace: int = -1) -> None:
    """Remove a container's rules, and with ``namespace`` its end of a veth; nothing is no error.

    Raises Unavailable, OSError."""
    subject = f"container {of.container} interface {of.ifname}"
    commands = foreign.removals(foreign_rules.listing(foreign.TABLES), of)
    link = kernel.link_inside(namespace, of.ifname) if namespace >= 0 else None
    found = list(commands)
    if link is not None and link.kind == "veth":
        found.append(f"link {of.ifname}")
    if not found:
        return
    database.journal_add([JournalEntry(time.time(), "taken over", subject, "; ".join(found), 0.0, "")])
    if commands:
        foreign_rules.remove(commands)
    if link is not None and link.kind == "veth":
        wiring.raise_first(kernel.apply_inside(namespace, [Op(None, link)]), subject)

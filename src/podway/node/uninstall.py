"""Removing all that Podway made on this node, and only that; sysctls get back the value found."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from podway.delta.differ import ordered
from podway.kernel import sysctl
from podway.kernel.facade import Kernel, is_owned
from podway.model.objects import Link, Op, OpResult, Sysctl
from podway.node.database import Database


class Removal(msgspec.Struct, frozen=True):
    """What uninstalling would do. ``kept``: sysctls that somebody changed since, left as they are."""

    ops: tuple[Op, ...]
    kept: tuple[str, ...] = ()


def plan(kernel: Kernel, database: Database) -> Removal:
    """Everything owned in the kernel, then the ledger's values."""
    actual = kernel.observe(adopted=database.put_on_foreign())
    owned = [o for o in actual.values() if not isinstance(o, Link) or is_owned(o)]
    ops = list(ordered(Op(None, o) for o in owned))
    kept: list[str] = []
    for path, entry in sorted(database.ledger().items()):
        now = sysctl.read(path) if "/" in path and " " not in path else None
        if now is None or now == entry.found:
            continue
        if now != entry.written:
            kept.append(f"{path} is {now}, not the {entry.written} that was written")
            continue
        ops.append(Op(Sysctl(path=path, value=entry.found), Sysctl(path=path, value=now)))
    return Removal(tuple(ops), tuple(kept))


def run(kernel: Kernel, database: Database, removal: Removal) -> Sequence[OpResult]:
    """Apply ``removal``; the ledger is emptied of what was restored, endpoints are forgotten."""
    on_foreign = database.put_on_foreign()
    results = kernel.apply(removal.ops)
    kernel.nft.remove_all()
    for result in results:
        if isinstance(result.op.want, Sysctl) and not result.errno:
            database.ledger_remove(result.op.want.path)
        elif not result.errno and result.op.key in on_foreign:
            database.ledger_remove(" ".join(result.op.key))
    database.forget_endpoints()
    return results

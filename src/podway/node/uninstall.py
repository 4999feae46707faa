"""Removing all that Podway made on this node, and only that; sysctls get back the value found."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import msgspec

from podway.delta.differ import ordered
from podway.kernel import sysctl
from podway.kernel.facade import Kernel, is_owned
from podway.model.errors import Conflict
from podway.model.objects import Actual, Link, Op, OpResult, Sysctl
from podway.node import inside
from podway.node.database import Database, LedgerEntry
from podway.node.ledger import Settings


class Removal(msgspec.Struct, frozen=True):
    """What uninstalling would do. ``kept``: what somebody changed since, left as it is."""

    ops: tuple[Op, ...]
    kept: tuple[str, ...] = ()


def plan(kernel: Kernel, database: Database) -> Removal:
    """Everything owned in the kernel, then what the ledger says of foreign things."""
    actual = kernel.observe(adopted=database.put_on_foreign())
    owned = [o for o in actual.values() if not isinstance(o, Link) or is_owned(o)]
    owned += kernel.learned()  # a BIRD that was killed has left them
    ops = list(ordered(Op(None, o) for o in owned))
    kept: list[str] = []
    for path, entry in sorted(database.ledger().items()):
        op, words = _restored_link(path, entry, actual) if " " in path else _restored_sysctl(path, entry)
        ops += [op] if op else []
        kept += [words] if words else []
    return Removal(tuple(ops), tuple(kept))


def _restored_sysctl(path: str, entry: LedgerEntry) -> tuple[Op | None, str]:
    now = sysctl.read(path)
    if now is None or now == entry.found:
        return None, ""
    if now != entry.written:
        return None, f"{path} is {now}, not the {entry.written} that was written"
    return Op(Sysctl(path=path, value=entry.found), Sysctl(path=path, value=now)), ""


def _restored_link(path: str, entry: LedgerEntry, actual: Actual) -> tuple[Op | None, str]:
    """Settings of an adopted bridge. Addresses put on it are among what is owned."""
    link = actual.get(tuple(path.split(" ")))
    if not isinstance(link, Link):
        return None, ""
    found, written = (Settings.decode(text) for text in (entry.found, entry.written))
    now = Settings.of(link)
    if now == found:
        return None, ""
    if now != written:
        return None, f"{path} is {now}, not as Podway set it, {written}"
    want = Link(name=link.name, kind=link.kind, up=found.up, promisc=found.promisc, adopted=True)
    return Op(want, link), ""


def run(kernel: Kernel, database: Database, removal: Removal) -> Sequence[OpResult]:
    """Apply ``removal``, and take out of pods what stands there alone, or was changed.

    Endpoints are forgotten, and of the ledger all but what failed."""
    for piece, _ in database.pieces().values():
        with contextlib.suppress(OSError, Conflict):
            inside.leave(kernel, piece)
    results = kernel.apply(removal.ops)
    kernel.nft.remove_all()
    failed = {_ledger_path(result.op) for result in results if result.errno}
    for path in database.ledger().keys() - failed:
        database.ledger_remove(path)
    database.forget_endpoints()
    return results


def _ledger_path(op: Op) -> str:
    return op.key[1] if op.key[0] == "sysctl" else " ".join(op.key)

"""What goes into the ledger before something foreign is changed, so that an uninstall can put it back."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from podway.delta.differ import on_link
from podway.model.gate import Passage
from podway.model.objects import Address, Desired, Link, Op, Sysctl
from podway.node.database import Database


class Settings(msgspec.Struct, frozen=True):
    """What Podway may change of a bridge that it adopted."""

    up: bool | None
    promisc: bool | None

    @classmethod
    def of(cls, link: Link) -> Settings:
        """Those that a link has."""
        return cls(link.up, link.promisc)

    @classmethod
    def decode(cls, text: str) -> Settings:
        """From ``str`` of one."""
        return msgspec.json.decode(text, type=cls)

    def __str__(self) -> str:
        return msgspec.json.encode(self).decode()

    def changed(self, want: Link) -> Settings:
        """After a change that leaves alone what ``want`` doesn't mention."""
        return Settings(
            self.up if want.up is None else want.up, self.promisc if want.promisc is None else want.promisc
        )


def remember(database: Database, desired: Desired, ops: Iterable[Op]) -> None:
    """What is changed on foreign things goes into the ledger before; what is owned dies with its link.

    The value found stays the one from before the first change."""
    changes = [op for op in ops if isinstance(op.want, Address | Link | Passage | Sysctl)]
    known = database.ledger() if changes else {}
    for op in changes:
        want, have = op.want, op.have
        if isinstance(want, Address) and have is None and _is_adopted(desired, want.link):
            database.ledger_put(" ".join(op.key), "", want.address)
        elif isinstance(want, Passage):
            database.ledger_put(" ".join(op.key), "", want.prefix)
        elif isinstance(want, Link) and want.adopted and isinstance(have, Link):
            path, found = " ".join(op.key), Settings.of(have)
            before = known[path].found if path in known else str(found)
            database.ledger_put(path, before, str(found.changed(want)))
        elif isinstance(want, Sysctl) and isinstance(have, Sysctl) and not _is_of_own_link(desired, want):
            path = want.path
            before = known[path].found if path in known else have.value
            if path not in known or known[path].written != want.value:
                database.ledger_put(path, before, want.value)


def _is_of_own_link(desired: Desired, one: Sysctl) -> bool:
    link = desired.get(("link", on_link(one)))
    return isinstance(link, Link) and not link.adopted


def _is_adopted(desired: Desired, name: str) -> bool:
    link = desired.get(("link", name))
    return isinstance(link, Link) and link.adopted

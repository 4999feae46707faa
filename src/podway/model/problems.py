"""What is wrong in a document, and where."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import msgspec


class Problem(msgspec.Struct, frozen=True):
    """What is wrong at ``path`` ("spec.pools[0].cidr") of a document, and what to do."""

    path: str
    what: str
    fix: str = ""

    def __str__(self) -> str:
        text = f"{self.path}: {self.what}" if self.path else self.what
        return f"{text} ({self.fix})" if self.fix else text


def suggest(word: str, known: Iterable[str]) -> str:
    """ "did you mean X?", or the list of what is known."""
    names = list(known)
    folded = {name.lower(): name for name in names}
    close = difflib.get_close_matches(word.lower(), folded, n=1)
    return f"did you mean {folded[close[0]]}?" if close else f"known: {', '.join(names)}"

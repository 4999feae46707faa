"""What the planner has to say to people: something wanted that can't be planned, and why."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

SHOWN = 3  # subjects that something is said of before others of the same are only counted


class Note(msgspec.Struct, frozen=True):
    """``subject`` names the thing ("peer b block 10.244.1.0/24"), then why, then what to do."""

    subject: str
    reason: str
    fix: str = ""

    @property
    def sentence(self) -> str:
        """All three, for a list of problems."""
        return f"{self.subject}: {self.reason}" + (f"; {self.fix}" if self.fix else "")


def fold(notes: Iterable[Note]) -> list[str]:
    """A sentence for each note; for those that say the same of many subjects, one for all of them."""
    alike: dict[tuple[str, str], list[Note]] = {}
    for note in notes:
        alike.setdefault((note.reason, note.fix), []).append(note)
    found: list[str] = []
    for same in alike.values():
        if len(same) <= SHOWN:
            found += [note.sentence for note in same]
            continue
        subjects = ", ".join(note.subject for note in same[:SHOWN])
        subject = f"{subjects} and {len(same) - SHOWN} more"
        found.append(msgspec.structs.replace(same[0], subject=subject).sentence)
    return found

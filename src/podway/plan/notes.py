"""What the planner has to say to people: something wanted that can't be planned, and why."""

from __future__ import annotations

import msgspec


class Note(msgspec.Struct, frozen=True):
    """``subject`` names the thing ("peer b block 10.244.1.0/24"), then why, then what to do."""

    subject: str
    reason: str
    fix: str = ""

    @property
    def sentence(self) -> str:
        """All three, for a list of problems."""
        return f"{self.subject}: {self.reason}" + (f"; {self.fix}" if self.fix else "")

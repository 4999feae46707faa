"""The error every user sees: what was wrong, where, and what to do."""

from __future__ import annotations


class PodwayError(Exception):
    """A failure whose cause is known.

    ``what``: one sentence naming what was wrong. ``where``: file:line, resource path or kernel
    object ("" when ``what`` says it). ``fix``: what to do ("" when nothing can be advised).
    """

    def __init__(self, what: str, where: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.fix = fix

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text} ({self.fix})" if self.fix else text


class InvalidInput(PodwayError):
    """What a person or a client sent can't be right, whatever the state of the system."""


class Conflict(PodwayError):
    """Two wants for one thing, or something foreign stands where Podway's should."""


class Lost(Conflict):
    """What is Podway's doesn't stand on the node, where an agent puts it back once it has heard of that."""


class Unavailable(PodwayError):
    """Right, but not possible now: try again later."""


class Busy(Unavailable):
    """Another process is the node's writer at this moment."""


class Exhausted(PodwayError):
    """No address is left. Names the pool, its use, and what to do."""

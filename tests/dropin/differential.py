"""Two or three sets of CNI plugins over the same cases: every difference has a name, or is a defect.

``python differential.py`` shows what one usual chain leaves (for a look by hand).
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

from bench.built import built
from bench.reference import DEBIAN, MODULE, NAME, PROOF
from differ_state import flattened
from differ_world import OURS, Case, Side, together

ABSENT = "(absent)"


class Difference(NamedTuple):
    """``path``: "2 DEL/node/links/cni0/mtu"; ``left`` and ``right``: what each side has there."""

    path: str
    left: Any
    right: Any

    def __str__(self) -> str:
        return f"{self.path}\n    {self.left!r}\n    {self.right!r}"


@functools.cache
def debian() -> Side:
    """Debian's package."""
    return Side("Debian", (str(DEBIAN),))


@functools.cache
def release() -> Side:
    """The current release, built once."""
    return Side("1.9.1", (str(built(NAME, MODULE, PROOF)),))


@functools.cache
def ours() -> Side:
    """Podway's, and for names that it has not, the release's."""
    return Side("ours", (OURS, str(built(NAME, MODULE, PROOF))))


def differences(left: dict[str, Any], right: dict[str, Any]) -> list[Difference]:
    """Leaf by leaf; lists that hold the same in another order differ at each place."""
    one, other = flattened(left), flattened(right)
    return [
        Difference(path, one.get(path, ABSENT), other.get(path, ABSENT))
        for path in dict.fromkeys([*one, *other])
        if one.get(path, ABSENT) != other.get(path, ABSENT)
    ]


def compare(case: Case, *sides: Side) -> list[list[Difference]]:
    """The differences of every side from the first."""
    first, *others = together(case, sides)
    return [differences(first, one) for one in others]

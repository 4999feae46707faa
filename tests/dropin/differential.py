"""Two or three sets of CNI plugins over the same cases: every difference has a name, or is a defect.

``python differential.py`` shows what one usual chain leaves (for a look by hand).
"""

from __future__ import annotations

import functools
import re
from typing import Any, NamedTuple

from bench.built import built
from bench.reference import DEBIAN, MODULE, NAME, PROOF
from differ_state import flattened
from differ_world import Case, Side, together

from podway.cni import dropin

ABSENT = "(absent)"
_DEFECT = 100  # podway.cni.errors.INTERNAL


class Difference(NamedTuple):
    """``path``: "2 DEL/node/links/cni0/mtu"; ``left`` and ``right``: what each side has there.

    ``said``: of a difference in an answer, the words of each side's error, "" where there is none. ``was``:
    what the right side had there a step earlier."""

    path: str
    left: Any
    right: Any
    said: tuple[str, str] = ("", "")
    was: Any = ABSENT

    def __str__(self) -> str:
        words = "".join(f"\n    {one}" for one in self.said if one)
        return f"{self.path}\n    {self.left!r}\n    {self.right!r}{words}"


@functools.cache
def debian() -> Side:
    """Debian's package."""
    return Side("Debian", str(DEBIAN))


@functools.cache
def release() -> Side:
    """The current release, built once."""
    return Side("1.9.1", str(built(NAME, MODULE, PROOF)))


@functools.cache
def ours() -> Side:
    """Podway's, and for names that it has not, the release's."""
    return Side("ours", release().directory, tuple(dropin.NAMES))


def installed(*names: str) -> Side:
    """Podway's executables and an agent, for these names; the release's for the others."""
    return Side(f"our {', '.join(names)}", release().directory, names, agent=True)


def differences(left: dict[str, Any], right: dict[str, Any]) -> list[Difference]:
    """Leaf by leaf; lists that hold the same in another order differ at each place."""
    texts = left["texts"], right["texts"]
    one, other = (flattened({k: v for k, v in side.items() if k != "texts"}) for side in (left, right))
    steps = [title for title in right if title != "texts"]
    earlier = dict(zip(steps[1:], steps, strict=False))
    found = []
    for path in dict.fromkeys([*one, *other]):
        if one.get(path, ABSENT) != other.get(path, ABSENT):
            _, step, *rest = path.split("/")
            was = other.get("/".join(["", earlier.get(step, ""), *rest]), ABSENT)
            found.append(
                Difference(path, one.get(path, ABSENT), other.get(path, ABSENT), _said(path, *texts), was)
            )
    return found


def _said(path: str, *texts: dict[str, str]) -> tuple[str, str]:
    """Of an answer its words, or, if it wasn't asked for, those of the one that failed before it; of what
    stands, the words of the last ADD."""
    answer, step = ("/".join(path.split("/")[:parts]) for parts in (4, 2))
    if not path.startswith(f"{step}/answers/"):
        number = int(step[1:].split()[0])
        adds = [at.split("/")[1] for at in texts[0] if re.match(r"/\d+ ADD", at)]
        answer, step = "", f"/{max((one for one in adds if int(one.split()[0]) <= number), default='')}"
    left, right = (
        texts_of.get(
            answer, next((one for at, one in texts_of.items() if at.startswith(f"{step}/") and one), "")
        )
        for texts_of in texts
    )
    return left, right


def _defects(told: dict[str, Any], side: Side) -> list[Difference]:
    """Answers of ours that say that Podway is broken, which no code of the others' excuses."""
    return [
        Difference(f"/{title}/answers/{at}/code", "no defect", one["code"])
        for title, step in told.items()
        if title != "texts"
        for at, one in enumerate(step["answers"])
        if one.get("code") == _DEFECT and one["type"] in side.ours
    ]


def compare(case: Case, *sides: Side) -> list[list[Difference]]:
    """The differences of every side from the first."""
    first, *others = together(case, sides)
    return [
        [*differences(first, one), *_defects(one, side)] for one, side in zip(others, sides[1:], strict=True)
    ]

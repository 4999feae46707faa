"""Label selectors as Kubernetes writes them: "rack=a, zone in (x, y), !spare". Pure.

Terms are joined by commas, and all must hold: KEY=VALUE (or ==), KEY!=VALUE, KEY in (…), KEY notin (…),
KEY (has it), !KEY (has it not). "" selects everything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

Labels = Mapping[str, str]
_KEY = r"[A-Za-z0-9](?:[A-Za-z0-9._/-]*[A-Za-z0-9])?"
_TERM = re.compile(
    rf"\s*(?:(?P<negated>!)?\s*(?P<key>{_KEY})\s*"
    rf"(?:(?P<operator>==?|!=)\s*(?P<value>{_KEY}|)|(?P<member>in|notin)\s*\((?P<values>[^()]*)\))?)\s*(?:,|$)"
)


def parse(text: str) -> Callable[[Labels], bool]:
    """What a selector means. Raises ValueError that says what is wrong."""
    tests: list[Callable[[Labels], bool]] = []
    position = 0
    while position < len(text) and text.strip():
        match = _TERM.match(text, position)
        if match is None:
            raise ValueError(
                f"{text[position:].strip()!r} is no term; such as rack=a, zone in (x, y), !spare"
            )
        tests.append(_test(match))
        position = match.end()
    return lambda labels: all(test(labels) for test in tests)


def _test(match: re.Match[str]) -> Callable[[Labels], bool]:
    key, operator, member = match["key"], match["operator"], match["member"]
    if member:
        values = {value.strip() for value in match["values"].split(",")}
        return lambda labels: (labels.get(key) in values) == (member == "in")
    if operator:
        if match["negated"]:
            raise ValueError(f"{match[0].strip()!r}: write {key}!={match['value']}")
        return lambda labels: (labels.get(key) == match["value"]) != (operator == "!=")
    return lambda labels: (key in labels) != bool(match["negated"])

"""Label selectors: what each term means, and what is none."""

from __future__ import annotations

import pytest

from podway.model.selector import parse

LABELS = {"rack": "a", "zone": "x", "podway.dev/role": "edge"}


@pytest.mark.parametrize(
    ("text", "selects"),
    [
        ("", True),
        ("rack=a", True),
        ("rack==a", True),
        ("rack=b", False),
        ("rack!=b", True),
        ("missing!=b", True),
        ("rack", True),
        ("missing", False),
        ("!missing", True),
        ("!rack", False),
        ("zone in (x, y)", True),
        ("zone notin (x,y)", False),
        ("missing notin (x)", True),
        ("rack=a,zone in (y)", False),
        (" rack = a , !spare, podway.dev/role=edge", True),
    ],
)
def test_terms(text: str, selects: bool) -> None:
    assert parse(text)(LABELS) is selects


@pytest.mark.parametrize(
    "text", ["=a", "rack=a b", "rack in x", "rack in (x", "!rack=a", "a;b", "rack=a,,b", '"x"']
)
def test_what_is_no_term(text: str) -> None:
    with pytest.raises(ValueError, match=r"term|write"):
        parse(text)

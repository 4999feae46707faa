"""What is said of many is said once."""

from __future__ import annotations

from podway.plan.notes import Note, fold


def test_the_same_of_many_is_one_sentence_and_of_few_each_has_its_own() -> None:
    many = [Note(f"peer {name}", "unheard", "ask it") for name in "abcde"]
    few = [Note(f"pool {name}", "full") for name in "xyz"]
    assert fold([many[0], *few, *many[1:]]) == [
        "peer a, peer b, peer c and 2 more: unheard; ask it",
        "pool x: full",
        "pool y: full",
        "pool z: full",
    ]

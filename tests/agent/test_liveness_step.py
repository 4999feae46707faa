"""Who is suspect: told of itself and isn't heard of; nothing is concluded from not knowing."""

from __future__ import annotations

from podway.agent.liveness import Liveness, changes


def test_a_node_that_is_not_heard_of_is_suspect_until_it_is() -> None:
    none = Liveness()
    lost = none.step({"a", "b"}, {"a"})
    assert lost.suspect == {"b"} and changes(none, lost, {"a", "b"}) == [("b", "suspect")]
    back = lost.step({"a", "b"}, {"a", "b"})
    assert not back.suspect and changes(lost, back, {"a", "b"}) == [("b", "alive")]


def test_nothing_is_concluded_while_the_store_is_out_of_reach() -> None:
    lost = Liveness().step({"a", "b"}, {"a"})
    assert lost.step({"a", "b"}, None) == lost


def test_a_node_that_left_is_neither_suspect_nor_alive() -> None:
    lost = Liveness().step({"a", "b"}, {"a"})
    gone = lost.step({"a"}, {"a"})
    assert not gone.suspect and changes(lost, gone, {"a"}) == []

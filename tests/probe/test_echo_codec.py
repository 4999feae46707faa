"""The echo's datagrams: round trips, sizes, damage."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podway.probe import echo
from podway.probe.echo import LEAST, Echo, Kind

names = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)


def _question(size: int = 0, answer_size: int = 0) -> bytes:
    asked = Echo(kind=Kind.QUESTION, nonce=7, sender="a", size=size, answer_size=answer_size)
    return echo.encode(asked)


@given(
    st.sampled_from(Kind), st.integers(0, 2**64 - 1), names, st.integers(LEAST, 9000), st.integers(0, 9000)
)
def test_round_trip(kind: Kind, nonce: int, name: str, size: int, wished: int) -> None:
    """What is sent is read again, and fills exactly the wished size."""
    sent = Echo(kind=kind, nonce=nonce, sender=name, size=size, answer_size=wished)
    data = echo.encode(sent)
    assert len(data) == size
    assert echo.decode(data) == sent


@given(st.integers(LEAST, 2000), st.integers(0, 1999), st.integers(1, 255))
def test_damage_is_seen_and_answered_as_such(size: int, at: int, change: int) -> None:
    """One changed byte anywhere is no echo any more, or one that is known not to be intact."""
    data = bytearray(_question(size))
    data[at % size] ^= change
    found = echo.decode(bytes(data))
    assert found is None or not found.intact or found.kind is not Kind.QUESTION
    if found is not None and found.kind is Kind.QUESTION:
        answered = echo.decode(echo.answer(found, "b") or b"")
        assert answered is not None and answered.kind is Kind.DAMAGED and answered.intact


@given(st.binary(max_size=200))
def test_anything_else_is_no_echo(data: bytes) -> None:
    """Whatever comes to the port, reading it raises nothing."""
    echo.decode(data)
    echo.decode(b"pwe\x01" + data)


@given(names, st.integers(LEAST, 9000), st.integers(0, 0xFFFF))
def test_no_answer_is_larger_than_its_question(name: str, size: int, wished: int) -> None:
    """The port is no amplifier; a smaller answer is had by asking for it."""
    question = echo.decode(_question(size, wished))
    assert question is not None
    data = echo.answer(question, name)
    assert data is not None and len(data) == max(LEAST, min(wished or size, size))
    found = echo.decode(data)
    assert found is not None and (found.kind, found.nonce, found.sender) == (Kind.ANSWER, 7, name)
    assert echo.answer(found, "c") is None


def test_sizes_that_no_datagram_has_are_refused() -> None:
    """A size is exact or an error, never another one."""
    for size in (LEAST - 1, 70000):
        with pytest.raises(ValueError):
            _question(size)
    assert echo.payload_for(1500, 4) == 1472 and echo.payload_for(1450, 6) == 1402

"""What the age of a WireGuard handshake says of a peer that doesn't answer."""

from __future__ import annotations

import pytest

from podway.agent import handshakes


@pytest.mark.parametrize(
    ("at", "words"),
    [
        (0, "no handshake yet: UDP 51820 doesn't come back, or the peer doesn't know this node's key"),
        (688, "no handshake for 312 s: UDP 51820 doesn't come back, or one of the two has another key now"),
        (988, "the last handshake was 12 s ago: the keys were right, and UDP 51820 passed then"),
        (1001, "the last handshake was 0 s ago: the keys were right, and UDP 51820 passed then"),
    ],
)
def test_in_words(at: int, words: str) -> None:
    assert handshakes.words(at, 1000.9, "UDP 51820") == words

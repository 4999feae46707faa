"""Echo requests: what is sent, and which of all that a raw socket hears is its answer."""

from __future__ import annotations

from podway.probe import ping

IP = bytes([0x45]) + bytes(19)


def test_a_request_has_the_checksum_of_its_bytes() -> None:
    data = ping.request(4, 0x1234, 1)
    words = [int.from_bytes(data[n : n + 2]) for n in range(0, len(data), 2)]
    assert data[0] == 8 and sum(words) % 0xFFFF == 0


def test_only_its_own_reply_is_taken() -> None:
    reply = bytes([0, 0, 0, 0, 0x12, 0x34, 0, 1])
    assert ping.is_reply(4, IP + reply, 0x1234)
    assert not ping.is_reply(4, IP + reply, 0x1235)
    assert not ping.is_reply(4, IP + ping.request(4, 0x1234, 1), 0x1234)
    assert ping.is_reply(6, bytes([129]) + reply[1:], 0x1234) and not ping.is_reply(6, b"", 1)
    assert not ping.is_reply(4, b"", 0) and not ping.is_reply(4, IP, 0)

"""DHCP's bytes and times, without a server: what was sent comes back, and any bytes are read in peace."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from podway.ipam import dhcp, lease
from podway.ipam.dhcp import ACK, Message
from podway.model.dropin import Leased

MAC = "02:00:00:00:00:01"
_OPTIONS = st.dictionaries(
    st.integers(1, 254).filter(lambda n: n != dhcp.TYPE), st.binary(min_size=1, max_size=255)
)


def replied(message: Message) -> bytes:
    """As a server would send it."""
    data = bytearray(dhcp.encode(message))
    data[0] = 2
    return bytes(data)


@given(st.integers(0, 2**32 - 1), _OPTIONS)
def test_what_was_sent_comes_back(xid: int, options: dict[int, bytes]) -> None:
    """Every option, whole; by way of a datagram too."""
    sent = Message(type=ACK, xid=xid, mac=MAC, client="10.0.0.2", options=options)
    found = dhcp.decode(replied(sent))
    assert found is not None
    assert (found.xid, found.mac, found.client, found.type) == (xid, MAC, "10.0.0.2", ACK)
    assert {**found.options, dhcp.TYPE: b""} == {**options, dhcp.TYPE: b""}
    packet = bytearray(dhcp.datagram(dhcp.encode(sent), "0.0.0.0", "255.255.255.255"))
    assert dhcp._checksum(bytes(packet[:20])) == 0
    assert dhcp.payload(bytes(packet)) == b""  # it is for a server
    packet[22:24] = dhcp.CLIENT_PORT.to_bytes(2, "big")
    assert dhcp.payload(bytes(packet)) == dhcp.encode(sent)


@given(st.binary(max_size=700), st.binary(max_size=100))
def test_any_bytes(data: bytes, tail: bytes) -> None:
    """Of strangers: no exception, whatever they hold."""
    dhcp.payload(data)
    head = replied(Message(type=ACK, xid=1, mac=MAC))[:240]
    for found in (dhcp.decode(data), dhcp.decode(head + tail), dhcp.decode(head + b"\x35\x01\x05" + tail)):
        if found is not None:
            list(dhcp.routes(found))
            dhcp.terms(found)


@pytest.mark.parametrize(("broadcast", "flags"), [(False, 0), (True, 0x8000)])
def test_the_broadcast_flag(broadcast: bool, flags: int) -> None:
    """RFC 2131, section 2: the first of 16 bits, the others are 0."""
    sent = dhcp.encode(Message(type=dhcp.DISCOVER, xid=1, mac=MAC, broadcast=broadcast))
    assert int.from_bytes(sent[10:12], "big") == flags


def test_an_option_in_parts() -> None:
    """RFC 3396; a pad between them, and one that is cut off at the end is left out."""
    head = replied(Message(type=ACK, xid=1, mac=MAC))[:240]
    found = dhcp.decode(head + b"\x35\x01\x05\x00\x06\x04\x01\x02\x03\x04\x06\x04\x05\x06\x07\x08\x0c\x09ab")
    assert found is not None
    assert found.addresses(6) == ["1.2.3.4", "5.6.7.8"] and dhcp.HOST_NAME not in found.options


@pytest.mark.parametrize(
    ("options", "routes"),
    [
        ({3: bytes([10, 0, 0, 1])}, [("0.0.0.0/0", "10.0.0.1")]),
        (
            {3: bytes([10, 0, 0, 1]), 33: bytes([192, 168, 7, 9, 10, 0, 0, 2])},
            [("192.168.7.0/24", "10.0.0.2"), ("0.0.0.0/0", "10.0.0.1")],
        ),
        (
            {3: bytes([10, 0, 0, 1]), 121: bytes([0, 10, 0, 0, 3, 12, 172, 16, 0, 0, 0, 0, 20, 1])},
            [("0.0.0.0/0", "10.0.0.3"), ("172.16.0.0/12", "")],
        ),
    ],
)
def test_routes(options: dict[int, bytes], routes: list[tuple[str, str]]) -> None:
    """The router's, those of classes, and classless ones instead of both; one that is cut off ends them."""
    assert list(dhcp.routes(Message(type=ACK, xid=1, mac=MAC, options=options))) == routes


@pytest.mark.parametrize(
    ("options", "terms"),
    [
        ({}, (1800, 3150, 3600)),
        ({51: 120}, (60, 105, 120)),
        ({51: 120, 58: 20, 59: 40}, (20, 40, 120)),
        ({51: 120, 58: 500, 59: 400}, (120, 120, 120)),
        ({51: 2**32 - 1}, (2**31 - 1, (2**32 - 1) * 7 // 8, 2**32 - 1)),
    ],
)
def test_terms(options: dict[int, int], terms: tuple[int, int, int]) -> None:
    """The server's, or the RFC's parts of the whole; never beyond the end."""
    packed = {option: number.to_bytes(4, "big") for option, number in options.items()}
    assert dhcp.terms(Message(type=ACK, xid=1, mac=MAC, options=packed)) == terms


def test_without_a_mask_there_is_no_address() -> None:
    with pytest.raises(ValueError, match="no subnet mask"):
        dhcp.prefix(Message(type=ACK, xid=1, mac=MAC, yours="10.0.0.2"))


@given(st.integers(1, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_lease_without_answers_ends(renew: int, more: int, rest: int) -> None:
    """Questions come ever closer, never too many, and the end is never missed."""
    one = Leased(
        address="10.0.0.2/24",
        gateway="",
        routes=(),
        server="10.0.0.1",
        server_mac=MAC,
        mac=MAC,
        options={},
        obtained_at=0.0,
        renew_at=float(renew),
        rebind_at=float(renew + more),
        expires_at=float(renew + more + rest),
        asked_at=0.0,
    )
    actions = []
    for _ in range(80):
        now = lease.due(one)
        assert one.asked_at < now <= one.expires_at
        actions.append(lease.action(one, now))
        if actions[-1] == "expired":
            break
        assert (actions[-1] == "renew") == (now < one.rebind_at)
        one = msgspec.structs.replace(one, asked_at=now)
    assert actions[-1] == "expired"
    assert actions == sorted(actions, key=["renew", "rebind", "expired"].index)

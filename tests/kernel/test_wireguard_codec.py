"""What is said to a WireGuard device and what its dump says: the bytes, with pyroute2 as the oracle."""

from __future__ import annotations

import base64
import ipaddress
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.generic.wireguard import wgmsg

from podway.kernel.netlink import wire
from podway.kernel.netlink import wireguard as codec
from podway.model.wireguard import WgAllowed, WgDevice, WgPeer

FAMILY, INDEX = 31, 7
keys = st.binary(min_size=32, max_size=32)


@st.composite
def peers(draw: st.DrawFn) -> WgPeer:
    return WgPeer(
        link="pww0",
        public_key=codec.key_text(draw(keys)),
        endpoint=str(draw(st.ip_addresses())),
        port=draw(st.integers(1, 65535)),
        keepalive=draw(st.integers(0, 65535)),
    )


@st.composite
def prefixes(draw: st.DrawFn) -> str:
    ip = draw(st.ip_addresses())
    return str(ipaddress.ip_network(f"{ip}/{draw(st.integers(0, ip.max_prefixlen))}", strict=False))


def read(request: bytes) -> wgmsg:
    """What pyroute2 takes from the same bytes."""
    message = wgmsg(request)
    message.decode()
    return message


@given(keys, st.integers(1, 65535))
def test_device(private: bytes, port: int) -> None:
    message = read(codec.encode_device(FAMILY, INDEX, private, port))
    assert (message["header"]["type"], message["cmd"]) == (FAMILY, codec.SET_DEVICE)
    assert message.get("WGDEVICE_A_IFINDEX") == INDEX
    assert message.get("WGDEVICE_A_LISTEN_PORT") == port
    assert message.get("WGDEVICE_A_PRIVATE_KEY") in (private, base64.b64encode(private))


@given(peers())
def test_peer(peer: WgPeer) -> None:
    (found,) = read(codec.encode_peer(FAMILY, INDEX, peer)).get("WGDEVICE_A_PEERS")
    endpoint = found.get("WGPEER_A_ENDPOINT")
    assert found.get("WGPEER_A_PUBLIC_KEY") == peer.public_key.encode()
    assert found.get("WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL") == peer.keepalive
    assert (endpoint["port"], ipaddress.ip_address(endpoint["addr"])) == (
        peer.port,
        ipaddress.ip_address(peer.endpoint),
    )
    (gone,) = read(codec.encode_peer_delete(FAMILY, INDEX, peer)).get("WGDEVICE_A_PEERS")
    assert gone.get("WGPEER_A_FLAGS") == codec.REMOVE_ME


@given(keys, prefixes(), keys)
def test_allowed(key: bytes, prefix: str, nobody: bytes) -> None:
    one = WgAllowed(link="pww0", prefix=prefix, peer=codec.key_text(key))
    (peer,) = read(codec.encode_allowed(FAMILY, INDEX, one)).get("WGDEVICE_A_PEERS")
    assert peer.get("WGPEER_A_FLAGS") is None  # prefixes that it has stay
    (allowed,) = peer.get("WGPEER_A_ALLOWEDIPS")
    assert ipaddress.ip_network(allowed["addr"]) == ipaddress.ip_network(prefix)
    taker, gone = read(codec.encode_allowed_delete(FAMILY, INDEX, one, nobody)).get("WGDEVICE_A_PEERS")
    assert taker.get("WGPEER_A_PUBLIC_KEY") == gone.get("WGPEER_A_PUBLIC_KEY") == base64.b64encode(nobody)
    assert gone.get("WGPEER_A_FLAGS") == codec.REMOVE_ME


def part(*peers: bytes, whole: bool = False) -> bytes:
    """A message of a dump; what is of the device is in the first alone."""
    device = wire.text(codec.IFNAME, "pww0") + wire.attribute(codec.PUBLIC_KEY, bytes(32))
    device += wire.attribute(codec.LISTEN_PORT, wire.U16.pack(51820))
    return codec.GENL.pack(0, 1) + (device if whole else b"") + wire.nested(codec.PEERS, *peers)


def test_a_dump_in_several_messages() -> None:
    """A peer whose prefixes don't fit goes on in the next message, by its key alone."""
    one, other = bytes(range(32)), bytes(range(1, 33))
    at = wire.attribute(codec.ENDPOINT, codec.socket_address("2001:db8::7", 51820))
    met = wire.attribute(codec.HANDSHAKE, codec.SECONDS.pack(1700000000, 5))
    more = wire.attribute(codec.KEEPALIVE, wire.U16.pack(25))
    prefix = [codec._allowed(f"10.1.{number}.0/24") for number in range(3)]
    first = part(codec._peer(one, at, met, more, prefix[0]), whole=True)
    second = part(codec._peer(one, prefix[1]), codec._peer(other, prefix[2]))
    found = codec.decode([first, second])
    assert found is not None
    assert found.device == WgDevice(link="pww0", public_key=codec.key_text(bytes(32)), port=51820)
    assert [(p.public_key, p.endpoint, p.port, p.keepalive) for p in found.peers] == [
        (codec.key_text(one), "2001:db8::7", 51820, 25),
        (codec.key_text(other), "", 0, 0),
    ]
    assert [(a.prefix, a.peer) for a in found.allowed] == [
        (f"10.1.{number}.0/24", codec.key_text(key)) for number, key in enumerate((one, one, other))
    ]
    assert found.met == {codec.key_text(one): 1700000000}
    assert codec.decode([]) is None


@pytest.mark.parametrize("cut", range(0, 200, 7))
def test_a_message_that_is_cut_off(cut: int) -> None:
    """No such message comes from a kernel, and none stops an agent."""
    whole = part(codec._peer(bytes(32), *itertools.repeat(codec._allowed("10.1.0.0/24"), 3)), whole=True)
    codec.decode([whole[: max(4, cut)]])

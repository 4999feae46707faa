"""What the outcomes of probes mean, and that the bytes of a probe name it again when they come back."""

from __future__ import annotations

import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from podway.lab import matrix, packet, topology
from podway.lab.matrix import Outcome, Spot, judge, probes, summarize

LAB = topology.default(nodes=2, pods=1)
NONCE = b"abcd"


def spot(name: str, place: matrix.Place, node: str, *addresses: str, mtu: int = 1500) -> Spot:
    return Spot(
        name=name,
        place=place,
        node=node,
        families=(4,),
        targets=addresses[:1],
        addresses=addresses,
        mtu=mtu,
        inner=mtu,
    )


SPOTS = (
    spot("node1", "node", "node1", "192.0.2.1", "10.244.1.1"),
    spot("node1-1", "pod", "node1", "10.244.1.2", mtu=1450),
    spot("node2", "node", "node2", "192.0.2.2", "10.244.2.1"),
    spot("node2-1", "pod", "node2", "10.244.2.2"),
    spot("internet", "host", "internet", "198.51.100.1"),
)


def outcome(sender: str, receiver: str, seen: str, error: str = "") -> Outcome:
    found = [p for p in probes(LAB, SPOTS) if (p.sender, p.receiver, p.protocol) == (sender, receiver, "udp")]
    return Outcome(probe=found[0], seen=seen, error=error)


def verdict(sender: str, receiver: str, seen: str, error: str = "") -> matrix.Verdict:
    return judge(LAB, SPOTS, [outcome(sender, receiver, seen, error)])[0]


def test_pairs_go_both_ways_and_only_out_to_hosts() -> None:
    pairs = {(probe.sender, probe.receiver) for probe in probes(LAB, SPOTS)}
    assert len(pairs) == 4 * 3 + 4
    assert ("node1-1", "internet") in pairs and ("internet", "node1-1") not in pairs


def test_a_full_packet_is_as_large_as_both_ends_carry() -> None:
    sizes = {(p.sender, p.receiver): p.size for p in probes(LAB, SPOTS) if p.protocol == "mtu"}
    assert sizes["node1", "node2"] == 1500 - 28
    assert sizes["node1-1", "node2-1"] == sizes["node2-1", "node1-1"] == 1450 - 28


def test_a_missing_address_is_probed_and_not_passed_over() -> None:
    bare = msgspec.structs.replace(SPOTS[1], targets=(), addresses=())
    assert {p.target for p in probes(LAB, (SPOTS[0], bare)) if p.receiver == bare.name} == {""}


@pytest.mark.parametrize(
    ("sender", "receiver", "seen", "nat"),
    [
        ("node1-1", "node2-1", "10.244.1.2", False),
        ("node1-1", "node2-1", "192.0.2.1", True),
        ("node1", "node1-1", "10.244.1.1", False),  # a node's own bridge is its own address
        ("node1", "node2-1", "192.0.2.2", True),
        ("node1-1", "internet", "192.0.2.1", False),
        ("node1-1", "internet", "10.244.1.2", True),  # it left the cluster untranslated
    ],
)
def test_which_address_may_be_seen(sender: str, receiver: str, seen: str, nat: bool) -> None:
    found = verdict(sender, receiver, seen)
    assert found.reached and found.nat is nat and bool(found.error) is nat


def test_the_way_is_told_by_its_names() -> None:
    assert verdict("node1-1", "node2-1", "").path == ("node1-1", "node1", "lan", "node2", "node2-1")
    assert verdict("node1", "node1-1", "").path == ("node1", "node1-1")


def test_a_pair_is_reached_when_every_probe_was() -> None:
    good, bad = verdict("node1", "node2", "192.0.2.1"), verdict("node1", "node2", "192.0.2.1", "lost")
    assert summarize([good]).line == "1 of 1 pairs reached, no NAT inside"
    assert not summarize([good, bad]).ok and summarize([good, bad]).reached == 0
    changed = verdict("node1-1", "node2", "192.0.2.1")
    assert summarize([good, changed]).line == "2 of 2 pairs reached, 1 seen under a wrong address"
    assert not summarize([]).ok


@given(st.integers(0, 2**32 - 1), st.integers(0, 1500), st.sampled_from([4, 6]))
def test_a_payload_comes_back_out_of_an_echo(number: int, size: int, family: int) -> None:
    data = packet.payload(NONCE, packet.QUESTION, number, size)
    echo = packet.echo(family, data)
    assert packet.parse(NONCE, echo[packet.ICMP.size :]) == (packet.QUESTION, number)
    assert packet.parse(b"othr", data) is None
    if family == 4:
        assert packet.checksum(echo) == 0  # RFC 1071: with its own checksum in it


@given(st.binary(max_size=60), st.binary(max_size=30), st.integers(0, 2**32 - 1))
def test_an_error_names_the_probe_that_it_quotes(head: bytes, tail: bytes, number: int) -> None:
    quoted = head + packet.payload(NONCE, packet.QUESTION, number) + tail
    error = struct.pack("!BBHHH", 3, 1, 0, 0, 0) + quoted
    if packet.MAGIC not in head:
        assert packet.error(4, NONCE, error) == (number, "host unreachable")
    assert packet.error(4, b"othr", error) is None


INNER = b"\x01" * 6 + b"\x02" * 6 + b"\x08\x00" + bytes(40)
VXLAN = struct.pack("!HHHHII", 40000, 8472, 0, 0, 0x08000000, 66 << 8) + INNER
OUTER4 = bytes(12) + b"\x08\x00\x45" + bytes(8) + b"\x11\0\0" + bytes((192, 0, 2, 1, 192, 0, 2, 2))
OUTER6 = bytes(12) + b"\x86\xdd\x60" + bytes(5) + b"\x11\x40" + bytes(15) + b"\x01" + bytes(15) + b"\x02"


@pytest.mark.parametrize(
    ("outer", "words"),
    [
        (OUTER4, "VXLAN 66, UDP 8472, 192.0.2.1 → 192.0.2.2"),
        (OUTER6, "VXLAN 66, UDP 8472, ::1 → ::2"),
    ],
)
def test_a_frame_in_a_tunnel_is_taken_out(outer: bytes, words: str) -> None:
    assert packet.peel(outer + VXLAN) == (words, INNER)


@pytest.mark.parametrize("family", [4, 6])
def test_a_packet_in_a_packet_is_taken_out(family: int) -> None:
    """And then looks as it does on the tunnel's own link, which has no Ethernet header."""
    inner = bytes([family << 4]) + bytes(40)
    if family == 4:
        frame, words = bytearray(OUTER4 + inner), "IP in IP, protocol 4, 192.0.2.1 → 192.0.2.2"
    else:
        frame, words = bytearray(OUTER6 + inner), "IP in IP, protocol 41, ::1 → ::2"
    frame[packet.ETHER + (9 if family == 4 else 6)] = 4 if family == 4 else 41
    assert packet.peel(bytes(frame)) == (words, packet.framed(inner))
    assert packet.IP[packet.framed(inner)[12:14]] == family


@given(st.binary(max_size=120))
def test_any_other_frame_is_left_as_it_is(data: bytes) -> None:
    for frame in (data, OUTER4 + data[:40], OUTER6 + data[:40], INNER + data):
        assert packet.peel(frame) == ("", frame)


@given(st.binary(max_size=40))
def test_foreign_bytes_are_nobodys(data: bytes) -> None:
    assert packet.parse(NONCE, data) is None

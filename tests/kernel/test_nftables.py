"""nftables on the real kernel: structure and elements are seen as they were made; others' changes too."""

from __future__ import annotations

import errno
import ipaddress
import subprocess
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podway.delta.differ import diff
from podway.kernel.nfnetlink import nftwire
from podway.kernel.nftables import Nft, NftMonitor
from podway.model.objects import AnyObject, Desired, NftChain, NftElement, NftRule, NftSet, Op
from podway.model.resources import PortMap
from podway.plan import nat, ports, spoofing

PORTS = (
    PortMap(host_port=8080, container_port=80),
    PortMap(host_port=53, container_port=53, protocol="udp", host_ip="192.0.2.1"),
    PortMap(host_port=9, container_port=9, protocol="sctp", host_ip="2001:db8::1"),
)
ADDRESSES = ("10.0.0.2/24", "fd00::2/64")
EVERYTHING: tuple[AnyObject, ...] = (
    *nat.structure(),
    *spoofing.structure(),
    *ports.structure(),
    *nat.endpoint(ADDRESSES),
    *nat.neighbour("br0", ADDRESSES),
    *nat.nodes(("192.0.2.1", "2001:db8::1")),
    *nat.cluster(("10.0.0.0/16", "10.1.0.0/16", "0.0.0.0/8", "255.0.0.0/8", "fd00::/48", "fd00:0:1::/48")),
    *spoofing.endpoint("veth-long-name0", "02:00:00:00:00:01", ADDRESSES),
    *ports.endpoint(PORTS, ADDRESSES),
)
WANTED: Desired = {o.key: o for o in EVERYTHING}

parts = {
    "ipv4_addr": st.ip_addresses(v=4).map(str),
    "ipv6_addr": st.ip_addresses(v=6).map(str),
    nftwire.ND_TARGET: st.ip_addresses(v=6).map(str),
    "ether_addr": st.binary(min_size=6, max_size=6).map(lambda raw: raw.hex(":")),
    "ifname": st.text("abcdefgh0123.-", min_size=1, max_size=15),
    "inet_service": st.integers(0, 65535).map(str),
    "inet_proto": st.sampled_from(["tcp", "udp", "sctp"]),
}
types = st.lists(st.sampled_from(sorted(parts)), min_size=1, max_size=4).map(tuple)


@given(types, st.data())
def test_keys_round_trip(kinds: tuple[str, ...], data: st.DataObject) -> None:
    texts = tuple(data.draw(parts[kind]) for kind in kinds)
    assert nftwire.unpack(kinds, nftwire.pack(kinds, texts)) == texts
    assert nftwire.type_names(nftwire.type_id(kinds)) == kinds


@given(st.sets(st.integers(0, 255), max_size=20))
def test_prefixes_round_trip_through_interval_ends(thirds: set[int]) -> None:
    wanted = {f"10.{third}.0.0/16" for third in thirds}
    raw = []
    for text in wanted:
        network = ipaddress.ip_network(text)
        raw.append((network.network_address.packed, b"", 0))
        raw.append(((network.broadcast_address + 1).packed, b"", nftwire.INTERVAL_END))
    of = NftSet(family="inet", name="s", type=("ipv4_addr",), interval=True)
    assert {one.value[0] for one in nftwire.elements(of, raw)} == wanted


@pytest.fixture
def nft(in_namespace: int) -> Iterator[Nft]:
    opened = Nft()
    yield opened
    opened.close()


def make(nft: Nft) -> None:
    results = nft.apply(diff(WANTED, nft.observe()).ops)
    assert [(r.op.key, r.error) for r in results if r.errno] == []


@pytest.mark.kernel
def test_everything_applied_is_seen_also_by_another(nft: Nft) -> None:
    make(nft)
    assert diff(WANTED, nft.observe()).ops == ()
    other = Nft()
    assert diff(WANTED, other.observe()).ops == ()
    other.close()


@pytest.mark.kernel
def test_everything_is_removed_again(nft: Nft) -> None:
    make(nft)
    results = nft.apply(diff({}, nft.observe()).ops)
    assert [(r.op.key, r.error) for r in results if r.errno] == []
    assert nft.observe() == {}


DAMAGES = [
    "flush chain inet podway postrouting",
    "add rule inet podway postrouting accept",
    "insert rule bridge podway guard accept",
    "delete set inet podway neighbours4",
    "flush set inet podway masquerade4",
    "delete table bridge podway",
    "flush ruleset",
    "add element inet podway masquerade4 { 10.9.9.9 }",
    "add element inet podway cluster4 { 172.16.0.0/12 }",
]


@pytest.mark.kernel
@pytest.mark.parametrize("damage", DAMAGES)
def test_what_others_change_is_seen_and_mended(nft: Nft, damage: str) -> None:
    make(nft)
    done = subprocess.run(["nft", damage], capture_output=True, text=True, check=False)
    if "delete set" in damage:
        assert done.returncode  # the kernel protects a set that a rule uses
        return
    ops = diff(WANTED, nft.observe()).ops
    assert ops
    for _ in range(3):
        nft.apply(diff(WANTED, nft.observe()).ops)
    assert diff(WANTED, nft.observe()).ops == ()


@pytest.mark.kernel
def test_a_rule_replaced_under_the_same_comment_is_seen(nft: Nft) -> None:
    make(nft)
    listed = subprocess.run(
        ["nft", "-a", "list", "chain", "inet", "podway", "raw"], capture_output=True, text=True, check=True
    ).stdout
    line = next(line for line in listed.splitlines() if "# handle" in line and "drop" in line)
    handle = line.rpartition(" ")[2]
    comment = line[line.index("comment") : line.rindex("# handle")]
    command = f"replace rule inet podway raw handle {handle} accept {comment}"
    subprocess.run(["nft", command], check=True)
    assert [op.key for op in diff(WANTED, nft.observe()).ops] == [("nftchain", "inet", "raw")]


@pytest.mark.kernel
def test_an_unlawful_rule_changes_nothing_and_has_the_librarys_words(nft: Nft) -> None:
    make(nft)
    bad = NftChain(family="inet", name="raw", rules=(NftRule("nonsense here", "why"),))
    good = NftChain(family="inet", name="other", rules=(NftRule("accept", "why"),))
    results = nft.apply([Op(good, None), Op(bad, WANTED[bad.key])])
    assert {r.errno for r in results} == {errno.EINVAL} and results[1].error.startswith("Error: ")
    assert diff(WANTED, nft.observe()).ops == ()


@pytest.mark.kernel
def test_one_refused_element_does_not_stop_the_others(nft: Nft) -> None:
    make(nft)
    good = NftElement(family="inet", set="masquerade4", value=("10.7.7.7",))
    clash = NftElement(family="inet", set="ports4", value=("tcp", "8080"), data=("10.0.0.9", "1"))
    results = nft.apply([Op(good, None), Op(clash, None)])
    assert [bool(r.errno) for r in results] == [False, True]
    assert good.key in nft.observe()


@pytest.mark.kernel
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (("10.0.0.0/16",), ("10.0.0.0/15",)),
        (("10.0.0.0/15",), ("10.0.0.0/16",)),
        (("10.0.0.0/16", "10.1.0.0/16"), ("10.0.0.0/15", "10.2.0.0/16")),
        (("fd00::/48",), ("fd00::/47",)),
    ],
)
def test_a_prefix_grows_and_shrinks(nft: Nft, before: tuple[str, ...], after: tuple[str, ...]) -> None:
    """In one pass: a set of prefixes takes none that overlaps another that is still there."""
    structure = {o.key: o for o in nat.structure()}
    for prefixes in (before, after):
        wanted = structure | {o.key: o for o in nat.cluster(prefixes)}
        assert not any(result.errno for result in nft.apply(diff(wanted, nft.observe()).ops))
        assert diff(wanted, nft.observe()).ops == ()


def test_ten_thousand_elements(nft: Nft) -> None:
    make(nft)
    many = [
        NftElement(family="inet", set="masquerade4", value=(f"10.{100 + n // 250}.1.{n % 250}",))
        for n in range(10_000)
    ]
    assert not [r for r in nft.apply([Op(o, None) for o in many]) if r.errno]
    assert {o.key for o in many} <= set(nft.observe())


@pytest.mark.kernel
def test_events_of_our_tables_and_one_for_all_of_others(nft: Nft) -> None:
    monitor = NftMonitor()
    try:
        make(nft)
        monitor.read()
        subprocess.run(["nft", "add table inet other; add chain inet other c"], check=True)
        assert [(event.key, event.foreign) for event in monitor.read()] == [(("passage",), True)]
        subprocess.run(["nft", "flush chain inet podway raw"], check=True)
        assert ("nftchain", "inet", "raw") in {event.key for event in monitor.read()}
        subprocess.run(["nft", "add element inet podway masquerade4 { 10.9.9.9 }"], check=True)
        assert {event.key[2] for event in monitor.read()} == {"masquerade4"}
    finally:
        monitor.close()

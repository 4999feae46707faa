"""Which rule a fault is, which faults can't be, and what delay and loss come to."""

from __future__ import annotations

import subprocess

import msgspec
import pytest

from podway.lab import faults, weather
from podway.lab.faults import Fault, check, ruleset, sides
from podway.lab.topology import Segment, Topology, Weather, Wish, build
from podway.model.errors import InvalidInput, Unavailable

SEGMENTS = (
    Segment(name="lan", cidrs=("192.0.2.0/24", "fd00::/64"), weather=Weather(loss=2.5)),
    Segment(name="far", cidrs=("198.51.100.0/24",), weather=Weather(delay=5.0)),
)
WISHES = (
    Wish(name="a", role="node", segments=("lan",)),
    Wish(name="b", role="node", segments=("lan",), weather=Weather(loss=50)),
    Wish(name="c", role="node", segments=("far",), weather=Weather(delay=1.5)),
    Wish(name="r", role="router", segments=("lan", "far")),
)
LAB: Topology = build(SEGMENTS, WISHES, ())
CALM = msgspec.structs.replace(LAB, segments=(), machines=tuple(m for m in LAB.machines if m.name in "ac"))


def rules(topology: Topology, *wanted: Fault) -> list[str]:
    lines = (line.strip() for line in ruleset(topology, wanted).splitlines())
    return [line.partition(" comment")[0] for line in lines if line.endswith('"')]


def test_a_fault_is_by_link_on_a_segment_and_by_address_across_routers() -> None:
    """Both ways; ARP falls to the first rule of each, which has no address."""
    assert rules(CALM, Fault(one=("a",), other=("c",))) == [
        'iifname { "a-e0" } oifname { "c-e0" }  counter drop',
        'iifname { "a-e0" } ip daddr { 198.51.100.1 }  counter drop',
        'iifname { "c-e0" } oifname { "a-e0" }  counter drop',
        'iifname { "c-e0" } ip daddr { 192.0.2.1 }  counter drop',
        'iifname { "c-e0" } ip6 daddr { fd00::1 }  counter drop',
    ]


def test_a_fault_may_be_of_a_kind_a_size_a_share_and_one_way() -> None:
    (rule, *_) = rules(CALM, Fault(one=("a",), other=("c",), only="udp/8472", larger=1400, one_way=True))
    assert rule == 'iifname { "a-e0" } oifname { "c-e0" } udp dport 8472 meta length > 1400 counter drop'
    (rule, *rest) = rules(CALM, Fault(one=("a",), other=("c",), only="proto/4", loss=0.5, one_way=True))
    assert "meta l4proto 4 numgen random mod 10000 < 50 counter drop" in rule and len(rest) == 1


def test_the_losses_of_segments_and_links_are_there_from_the_start() -> None:
    assert faults.any_loss(LAB) and not faults.any_loss(CALM)
    assert rules(LAB) == [
        'oifname { "a-e0", "b-e0", "r-e0" } numgen random mod 10000 < 250 counter drop',
        'iifname { "b-e0" } numgen random mod 10000 < 5000 counter drop',
        'oifname { "b-e0" } numgen random mod 10000 < 5000 counter drop',
    ]


def test_a_segment_stands_for_its_nodes_and_hosts() -> None:
    assert sides(LAB, Fault(one=("lan",), other=("far",))) == (("a", "b"), ("c",))
    assert sides(LAB, Fault(one=("a",))) == (("a",), ("b", "c", "r"))


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(one=("aa",)), "did you mean a"),
        (Fault(one=("a",), other=("lan",)), "share no machine"),
        (Fault(one=("a",), only="icmpx"), "udp/8472"),
        (Fault(one=("a",), loss=101), "at most 100"),
        (Fault(one=()), "nobody"),
    ],
)
def test_a_fault_that_cannot_be_is_refused(fault: Fault, words: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check(LAB, fault)
    assert words in str(caught.value)


@pytest.mark.kernel
def test_the_kernel_takes_every_rule(in_namespace: int) -> None:
    """What is rendered loads, and loads again in its own place."""
    wanted = [
        Fault(one=("a",), only="udp/8472", larger=1400, loss=0.01),
        Fault(one=("lan",), other=("far",), only="proto/4", one_way=True),
        Fault(one=("r",)),
    ]
    for _ in range(2):
        subprocess.run(["nft", "-f", "-"], input=ruleset(LAB, wanted), text=True, check=True)


def test_delay_is_on_the_right_ends_of_a_link() -> None:
    """A segment's delay once on the way to each machine, a machine's own each way."""
    assert weather.delays(LAB, LAB.machine("c")) == ((6.5, 1.5),)
    assert weather.delays(LAB, LAB.machine("r")) == ((0.0, 0.0), (5.0, 0.0))
    assert weather.netem("c-e0", 6.5) == "qdisc replace dev c-e0 root netem delay 6500us limit 100000"


@pytest.mark.kernel
def test_delay_without_netem_is_refused_before_anything_is_made() -> None:
    """Where the kernel has netem there is nothing to refuse."""
    trial = ["unshare", "--net", "tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"]
    weather.require(build(SEGMENTS[:1], WISHES[:2], ()))
    if subprocess.run(trial, capture_output=True).returncode == 0:
        weather.require(LAB)
        return
    with pytest.raises(Unavailable) as caught:
        weather.require(LAB)
    assert "netem" in str(caught.value) and "leave delay out" in str(caught.value)

"""Which address is the node's: what is asked for, in order; other software's links are passed over."""

from __future__ import annotations

import pytest

from podway.model.resources import DetectSpec, Node, NodeFacts, NodeSpec, Snapshot, Uplink
from podway.model.validation import node_problems
from podway.plan.detect import settle, with_own

LINKS = (
    ("eth0", "192.0.2.7/24", "2001:db8::7/64"),  # the best default route comes first
    ("docker0", "172.17.0.1/16"),
    ("eth1", "198.51.100.7/24", "198.51.100.8/24", "2001:db8:1::7/64"),
)


def facts(*links: tuple[str, ...], **towards: str) -> NodeFacts:
    """A machine with these links, each with its addresses."""
    uplinks = tuple(Uplink(name=name, mtu=1500, addresses=tuple(rest)) for name, *rest in links)
    return NodeFacts(name="a", uplinks=uplinks, towards=towards)


def chosen(spec: DetectSpec, *links: tuple[str, ...], towards: dict[str, str] | None = None) -> list[str]:
    """The first address of each family."""
    found = settle(facts(*(links or LINKS), **(towards or {})), spec).addresses
    return [
        next(a for a in found if (":" in a) == six)
        for six in (False, True)
        if any((":" in a) == six for a in found)
    ]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (DetectSpec(), ["192.0.2.7/24", "2001:db8::7/64"]),
        (DetectSpec(interfaces=("eth1",)), ["198.51.100.7/24", "2001:db8:1::7/64"]),
        (DetectSpec(interfaces=("bond.*", "eth[1-9]")), ["198.51.100.7/24", "2001:db8:1::7/64"]),
        (DetectSpec(interfaces=("eth1", "eth0")), ["198.51.100.7/24", "2001:db8:1::7/64"]),
        (DetectSpec(interfaces=("docker0",)), ["172.17.0.1/16"]),  # asked for by name
        (DetectSpec(cidrs=("198.51.100.8/32", "2001:db8:1::/48")), ["198.51.100.8/24", "2001:db8:1::7/64"]),
        (DetectSpec(skip=("eth0",)), ["198.51.100.7/24", "2001:db8:1::7/64"]),
        (DetectSpec(interfaces=("wg0",)), []),
    ],
)
def test_what_is_asked_for_is_found(spec: DetectSpec, expected: list[str]) -> None:
    assert chosen(spec) == expected


def test_can_reach_takes_the_source_and_its_link() -> None:
    spec = DetectSpec(can_reach="203.0.113.1")
    assert chosen(spec, towards={"203.0.113.1": "198.51.100.8"}) == ["198.51.100.8/24", "2001:db8:1::7/64"]
    assert chosen(spec, towards={"203.0.113.1": ""}) == []


@pytest.mark.parametrize(
    "name", ["docker0", "cni0", "virbr0", "veth12ab", "br-0123456789ab", "cali1", "flannel.1"]
)
def test_links_of_other_software_are_passed_over_and_known_as_taken(name: str) -> None:
    found = settle(facts((name, "172.17.0.1/16"), ("eth0", "192.0.2.7/24")), DetectSpec())
    assert found.addresses == ("192.0.2.7/24",) and [u.name for u in found.uplinks] == ["eth0"]
    assert found.others == ("172.17.0.1/16",)


@pytest.mark.parametrize("name", ["br0", "bond0", "enp3s0", "wlan0", "wg0", "br-lan"])
def test_real_links_are_not_passed_over(name: str) -> None:
    assert chosen(DetectSpec(), (name, "192.0.2.7/24")) == ["192.0.2.7/24"]


def test_no_usable_address_says_what_there_is() -> None:
    found = settle(facts(("docker0", "172.17.0.1/16")), DetectSpec())
    assert found.addresses == () and "docker0 has 172.17.0.1/16" in found.trouble
    asked = settle(facts(*LINKS), DetectSpec(interfaces=("wg0",)))
    assert "by interfaces wg0: " in asked.trouble and "eth0 has 192.0.2.7/24" in asked.trouble


def test_a_declared_address_that_is_on_no_link_is_named() -> None:
    found = settle(facts(*LINKS), DetectSpec(), ("192.0.2.7/24", "203.0.113.9/24"))
    assert found.trouble == "203.0.113.9/24 is declared and on none of its links"
    assert found.addresses == ("192.0.2.7/24", "203.0.113.9/24")


def test_the_node_knows_its_own_address_before_the_store_does() -> None:
    told = Snapshot(nodes={"a": Node(name="a", spec=NodeSpec(addresses=("192.0.2.9/24",)))})
    now = settle(facts(("eth0", "192.0.2.7/24")), DetectSpec())
    assert with_own(told, now).nodes["a"].spec.addresses == ("192.0.2.7/24",)
    lost = settle(facts(), DetectSpec())
    assert with_own(told, lost) is told


def test_what_can_not_be_asked_is_refused_with_its_place() -> None:
    spec = DetectSpec(interfaces=("(",), cidrs=("192.0.2.1/24",), can_reach="host")
    paths = [problem.path for problem in node_problems(NodeSpec(detect=spec))]
    assert paths == ["spec.detect.interfaces[0]", "spec.detect.cidrs[0]", "spec.detect.canReach"]

"""Whatever stands in the store: it is named, it breaks nothing else, and what it could be about is kept."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet import Fleet, Machine, address_of, fleet, reaches, until

pytestmark = pytest.mark.kernel

POOL = "10.244.0.0/16"
HOSTGW = {"transport": "host-gw", "pools": [{"cidr": POOL}]}
VXLAN = {"transport": "vxlan", "pools": [{"cidr": "10.99.0.0/16"}], "vxlan": {"vni": 9}}


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Fleet]:
    """Node a runs; b is a peer that is only declared, with a block in each network."""
    with fleet(tmp_path, "a", pods=HOSTGW, tunnel=VXLAN) as made:
        made.put("Node", "b", {"addresses": ["192.0.2.2/24"]})
        made.block("10.244.7.0/24", "b")
        made.block("10.99.7.0/24", "b", "tunnel")
        until(lambda: "10.99.7.0/24" in made.machines["a"].run("ip route"))
        yield made


def _follows(nodes: Fleet, cidr: str = "10.244.8.0/24") -> None:
    """The rest works: a sound claim is programmed, and unprogrammed when it goes."""
    a = nodes.machines["a"]
    nodes.block(cidr, "b")
    until(lambda: cidr in a.run("ip route"), cidr)
    nodes.remove("Block", cidr)
    until(lambda: cidr not in a.run("ip route"), cidr)


def _claim(network: str = "pods") -> dict[str, str]:
    return {"network": network, "node": "b", "attach": "bridge"}


#: kind, name, spec, what the status then says
CASES: list[tuple[str, str, object, str]] = [
    ("Block", "0.0.0.0/0", _claim(), "block 0.0.0.0/0 of node b"),
    ("Block", "10.9.0.0/24", _claim(), "it is in no pool of"),
    ("Block", "10.244.7.0/25", _claim(), "overlaps block 10.244.7"),
    ("Block", "10.244.9.0/24", b"garbage", "block 10.244.9.0/24: stored Block 10.244.9.0/24 can't be read"),
    ("Block", "rubbish", _claim(), "block rubbish: "),
    ("Node", "odd", b'{"addresses": 7}', "node odd: stored Node odd can't be read"),
    ("Node", "lo", {"addresses": ["127.0.0.1/8"]}, "reaches no other machine"),
    ("Network", "zero", VXLAN | {"vxlan": {"vni": 0}}, "spec.vxlan.vni: 0 is out of range"),
    ("Network", "big", VXLAN | {"vxlan": {"vni": 16777216}}, "16777216 is out of range"),
    ("Network", "twin", VXLAN | {"pools": [{"cidr": "10.98.0.0/16"}]}, "tunnel and twin both want VNI 9"),
    (
        "Network",
        "wide",
        HOSTGW | {"pools": [{"cidr": "10.240.0.0/12"}]},
        "overlaps pool 10.240.0.0/12 of net",
    ),
]


def test_a_bad_record_is_named_and_the_rest_goes_on(nodes: Fleet) -> None:
    a = nodes.machines["a"]
    for kind, name, spec, words in CASES:
        nodes.put(kind, name, spec)
        a.says(words)
        routes = a.run("ip route")
        assert "default" not in routes and "10.9.0.0" not in routes and "10.244.7.0/25" not in routes
        _follows(nodes)
        assert "10.244.7.0/24" in a.run("ip route") and "10.99.7.0/24" in a.run("ip route")
        nodes.remove(kind, name)
        until(lambda words=words: words not in a.status(), "the problem goes with the record")  # type: ignore[misc]
        assert "10.99.7.0/24" in a.run("ip route")


def test_a_record_that_turns_bad_keeps_what_it_stood_for(nodes: Fleet) -> None:
    """Also over a restart, and only that: another claim's removal is carried out meanwhile."""
    a = nodes.machines["a"]
    nodes.put("Block", "10.244.7.0/24", b"{")
    a.says("its last good value stays in force")
    _follows(nodes)
    a.stop()
    a.run("ip route add 10.244.77.0/24 via 192.0.2.9 proto 112")  # of an agent that was, and nobody's now
    a.start()
    until(lambda: "10.244.77.0/24" not in a.run("ip route"))
    assert "10.244.7.0/24 via 192.0.2.2" in a.run("ip route")


def test_without_a_last_good_value_only_its_own_objects_are_kept(nodes: Fleet) -> None:
    a = nodes.machines["a"]
    a.stop()
    for cidr in ("10.244.77.0/24", "10.244.78.0/24"):
        a.run(f"ip route add {cidr} via 192.0.2.9 proto 112")
    nodes.put("Block", "10.244.77.0/24", b"garbage")
    a.start()
    until(lambda: "10.244.78.0/24" not in a.run("ip route"))
    assert "10.244.77.0/24" in a.run("ip route")


def test_the_first_pod_of_a_network_whose_pools_overlap_is_told_at_once(nodes: Fleet) -> None:
    """Both networks are named, in the answer; a network beside them goes on."""
    a = nodes.machines["a"]
    big = {"pools": [{"cidr": "fd00::/16"}]}
    nodes.put("Network", "one", big)
    nodes.put("Network", "two", big)
    a.says("overlaps pool fd00::/16 of network")
    began = time.monotonic()
    answer = a.attach("c1", "one", check=False)
    assert "networks one and two both have fd00::/16 in a pool" in answer["msg"] + answer.get("details", "")
    assert time.monotonic() - began < 15
    assert a.attach("c2", "pods")["ips"]


def test_the_underlay_is_never_claimed(nodes: Fleet) -> None:
    a = nodes.machines["a"]
    nodes.put("Network", "under", {"pools": [{"cidr": "192.0.2.0/24"}]})
    answer = a.attach("c1", "under", check=False)
    assert "no block can be claimed: 192.0.2." in answer["msg"] + answer.get("details", "")


def test_a_block_that_was_given_to_another_while_pods_live_in_it(nodes: Fleet) -> None:
    """Two owners: the pods keep their network here, no new one comes in, and it is named."""
    a = nodes.machines["a"]
    address = address_of(a.attach("c1", "pods"))
    (block,) = a.blocks("pods")
    nodes.block(block, "b")
    a.says(f"block {block}: the store says it is node b's, but pods of a live in it")
    assert f"{block} dev pw-pods" in a.run("ip route") and f"{block} via" not in a.run("ip route")
    other = address_of(a.attach("c2", "pods"))
    assert other.rpartition(".")[0] != address.rpartition(".")[0]
    assert reaches(a, "c2", address)
    nodes.block(block, "a")
    until(lambda: "pods of a live in it" not in a.status())


def test_two_nodes_with_one_address_are_named_by_both(nodes: Fleet) -> None:
    """And nothing of the others breaks."""
    a: Machine = nodes.machines["a"]
    c = nodes.add("c", 2)  # b's address
    c.start()
    for machine in (a, c):
        machine.says("nodes b and c both say that 192.0.2.2 is theirs")
    _follows(nodes)

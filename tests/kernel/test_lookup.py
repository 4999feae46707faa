"""Single objects looked up on the real kernel: as a whole dump has them, and what became of them since."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from podway.delta.differ import CREATION_ONLY, matches
from podway.kernel.facade import Kernel
from podway.model.objects import (
    Actual,
    Address,
    AnyObject,
    BridgeOptions,
    BridgePort,
    Filter,
    Link,
    NftChain,
    NftElement,
    NftRule,
    NftSet,
    Op,
    Peer,
    Qdisc,
    Route,
    Rule,
    Sysctl,
)

pytestmark = pytest.mark.kernel

CALLERS = NftSet(family="inet", name="callers4", type=("ipv4_addr", "ipv4_addr"), interval=True)
PORTS = NftSet(
    family="inet", name="ports4", type=("inet_proto", "inet_service"), data=("ipv4_addr", "inet_service")
)
CLUSTER = NftSet(family="inet", name="cluster4", type=("ipv4_addr",), interval=True)
CHAIN = NftChain(family="inet", name="last", hook="forward", rules=(NftRule("counter accept", "all of it"),))


def element(of: NftSet, *value: str, data: tuple[str, ...] = ()) -> NftElement:
    return NftElement(family=of.family, set=of.name, value=value, data=data)


STRUCTURE: list[AnyObject] = [
    CALLERS,
    PORTS,
    CLUSTER,
    CHAIN,
    Link(name="br0", kind="bridge", alias="podway:x", bridge=BridgeOptions(stp=False)),
    Link(name="ifb7", kind="ifb", alias="podway:x"),
]
SINGLE: list[AnyObject] = [
    Link(
        name="v0",
        kind="veth",
        alias="podway:x",
        mac="02:00:00:00:00:02",
        master="br0",
        port=BridgePort(hairpin=True, isolated=False),
        peer=Peer(name="eth0", namespace="pod"),
    ),
    Address(link="br0", address="10.0.0.1/24", nodad=True),
    Address(link="br0", address="fd00::1/64", nodad=True),
    Qdisc(link="v0", kind="tbf", handle="1:", rate=10_000_000, burst=65536, limit=100_000),
    Qdisc(link="v0", kind="ingress", parent="ffff:fff1", handle="ffff:"),
    Filter(link="v0", redirect="ifb7"),
    Route(dst="10.1.0.0/24", via="10.0.0.2", dev="br0"),
    Route(dst="fd00:1::/64", via="fd00::2", dev="br0", metric=1024),
    Rule(family=4, priority=100, table=1000, src="10.0.0.0/24"),
    Sysctl(path="net/ipv4/conf/br0/route_localnet", value="1"),
    element(PORTS, "tcp", "80", data=("10.0.0.2", "8080")),
    element(PORTS, "udp", "53", data=("10.0.0.2", "53")),
    element(CALLERS, "10.0.0.2/32", "10.0.0.0/24"),
    element(CALLERS, "10.0.0.3/32", "0.0.0.0/0"),
    element(CLUSTER, "10.0.0.0/16"),
]
#: what somebody does, and what of ``SINGLE`` then isn't there as it was
DAMAGES: list[tuple[str, tuple[str, ...]]] = [
    ("ip link set v0 nomaster", ("link", "v0")),
    ("bridge link set dev v0 hairpin off", ("link", "v0")),
    ("ip link set v0 name v1", ("link", "v0")),
    ("ip link del v0", ("qdisc", "v0", "root")),
    ("ip addr del 10.0.0.1/24 dev br0", ("address", "br0", "10.0.0.1/24")),
    ("ip addr del fd00::1/64 dev br0", ("address", "br0", "fd00::1/64")),
    ("tc qdisc del dev v0 root", ("qdisc", "v0", "root")),
    ("tc qdisc change dev v0 root tbf rate 5mbit burst 64k limit 100000", ("qdisc", "v0", "root")),
    ("tc qdisc del dev v0 ingress", ("filter", "v0", "ffff:", "1")),
    ("ip link set ifb7 name ifb8", ("filter", "v0", "ffff:", "1")),
    ("sysctl -qw net.ipv4.conf.br0.route_localnet=0", ("sysctl", "net/ipv4/conf/br0/route_localnet")),
    (
        "nft delete element inet podway ports4 { tcp . 80 }",
        ("nftelement", "inet", "ports4", "tcp", "80"),
    ),
    (
        "nft delete element inet podway ports4 { tcp . 80 : 10.0.0.2 . 8080 };"
        " add element inet podway ports4 { tcp . 80 : 10.0.0.9 . 8080 }",
        ("nftelement", "inet", "ports4", "tcp", "80"),
    ),
    ("nft flush set inet podway callers4", ("nftelement", "inet", "callers4", "10.0.0.2/32", "10.0.0.0/24")),
    (
        "nft delete element inet podway callers4 { 10.0.0.2 . 10.0.0.0/24 };"
        " add element inet podway callers4 { 10.0.0.2 . 10.0.0.0/25 }",
        ("nftelement", "inet", "callers4", "10.0.0.2/32", "10.0.0.0/24"),
    ),
    ("nft flush set inet podway cluster4", ("nftelement", "inet", "cluster4", "10.0.0.0/16")),
    ("nft flush ruleset", ("nftelement", "inet", "ports4", "udp", "53")),
    (
        "nft delete set inet podway ports4; add set inet podway ports4 { type ipv4_addr; }",
        ("nftelement", "inet", "ports4", "tcp", "80"),
    ),
]


@pytest.fixture
def kernel(in_namespace: int, pod_namespace: int) -> Iterator[Kernel]:
    opened = Kernel()
    results = opened.apply([Op(o, None) for o in (*STRUCTURE, *SINGLE)], {"pod": pod_namespace})
    assert [(r.op.key, r.error) for r in results if r.errno] == []
    yield opened
    opened.close()


def as_wanted(kernel: Kernel, objects: list[AnyObject]) -> list[AnyObject]:
    return alike(objects, kernel.look_up(objects))


def alike(objects: list[AnyObject], found: Actual) -> list[AnyObject]:
    return [
        one
        for one in objects
        if one.key in found and matches(one, found[one.key], CREATION_ONLY.get(one.key[0], ()))
    ]


def test_each_is_found_alone_and_all_together(kernel: Kernel) -> None:
    assert as_wanted(kernel, [*STRUCTURE, *SINGLE]) == [*STRUCTURE, *SINGLE]
    for one in (*STRUCTURE, *SINGLE):
        assert as_wanted(kernel, [one]) == [one]
    assert kernel.look_up([]) == {}


@pytest.mark.parametrize(("command", "key"), DAMAGES, ids=[command for command, _ in DAMAGES])
def test_damage_is_seen(kernel: Kernel, command: str, key: tuple[str, ...]) -> None:
    damaged = [one for one in SINGLE if one.key == key]
    assert damaged and as_wanted(kernel, damaged) == damaged, (
        "looked up before, so that nothing remembered may show"
    )
    subprocess.run(command.split(maxsplit=1) if command.startswith("nft") else command.split(), check=True)
    assert as_wanted(kernel, damaged) == []


def test_a_link_that_took_anothers_name_has_nothing_of_it(kernel: Kernel) -> None:
    stood = [one for one in SINGLE if isinstance(one, Address | Filter | Qdisc | Route)]
    assert as_wanted(kernel, stood) == stood
    for name in ("v0", "br0", "ifb7"):
        subprocess.run(["ip", "link", "set", name, "name", f"{name}-old"], check=True)
        subprocess.run(["ip", "link", "add", name, "type", "bridge"], check=True)
    assert as_wanted(kernel, stood) == []
    for one in stood:
        assert as_wanted(kernel, [one]) == []


def test_what_was_never_made_is_not_found(kernel: Kernel) -> None:
    strangers: list[AnyObject] = [
        Link(name="none", kind="veth"),
        Address(link="none", address="10.0.0.1/24"),
        Address(link="br0", address="10.9.0.1/24"),
        Qdisc(link="none", kind="tbf"),
        Filter(link="none", redirect="none"),
        Route(dst="10.77.0.0/24", via="10.0.0.2", dev="none"),
        Sysctl(path="net/ipv4/conf/none/route_localnet", value="1"),
        NftElement(family="inet", set="none", value=("10.0.0.1",)),
        element(PORTS, "tcp", "81", data=("10.0.0.2", "8080")),
    ]
    found = kernel.look_up(strangers)
    assert not {one.key for one in strangers} & set(found)


def test_in_a_pod_its_own_are_found(kernel: Kernel, pod_namespace: int) -> None:
    own: list[AnyObject] = [
        Link(name="eth0", kind="veth", up=True),
        Address(link="eth0", address="10.0.0.2/24", nodad=True),
        Route(dst="0.0.0.0/0", via="10.0.0.1", dev="eth0"),
        Sysctl(path="net/ipv4/conf/eth0/arp_filter", value="1"),
    ]
    change = Op(own[0], Link(name="eth0", kind="veth", up=False))
    results = kernel.apply_inside(pod_namespace, [change, *(Op(one, None) for one in own[1:])])
    assert [(r.op.key, r.error) for r in results if r.errno] == []
    assert alike(own, kernel.look_up_inside(pod_namespace, own)) == own
    link = kernel.link_inside(pod_namespace, "eth0")
    assert link is not None and link.up
    assert kernel.link_inside(pod_namespace, "v0") is None, "it stands in the node's namespace alone"

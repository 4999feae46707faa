"""rtnetlink on the real kernel: every kind applied and seen again, as pyroute2 sees it; errors; events."""

from __future__ import annotations

import errno
import json
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import msgspec
import pyroute2
import pytest

from podway.delta.differ import CREATION_ONLY, matches
from podway.kernel import namespaces
from podway.kernel.monitor import Event, Monitor
from podway.kernel.rtnetlink import Rtnetlink
from podway.model.objects import (
    Address,
    AnyObject,
    BridgeOptions,
    BridgePort,
    Fdb,
    Filter,
    Link,
    Neighbour,
    Op,
    Peer,
    Qdisc,
    Route,
    Rule,
    Sysctl,
    TrafficClass,
    VxlanOptions,
)

pytestmark = pytest.mark.kernel

BRIDGE = Link(
    name="br0",
    kind="bridge",
    alias="podway:bridge:x",
    mac="02:00:00:00:00:01",
    mtu=1400,
    bridge=BridgeOptions(stp=False, mcast_snooping=False),
)
VETH = Link(
    name="v0",
    kind="veth",
    alias="podway:pod:c/eth0",
    mac="02:00:00:00:00:02",
    mtu=1400,
    master="br0",
    port=BridgePort(hairpin=True, isolated=True),
    peer=Peer(name="eth0", mac="02:00:00:00:00:03", mtu=1400, namespace="pod"),
)
EVERYTHING: list[AnyObject] = [
    BRIDGE,
    VETH,
    Link(name="ifb7", kind="ifb", alias="podway:x"),
    Link(
        name="vx4",
        kind="vxlan",
        alias="podway:x",
        mac="02:00:00:00:00:04",
        mtu=1450,
        vxlan=VxlanOptions(vni=7, port=8472, local="192.0.2.1"),
    ),
    Link(
        name="vx6",
        kind="vxlan",
        alias="podway:x",
        vxlan=VxlanOptions(vni=7, port=8472, local="2001:db8::1", checksum=True),
    ),
    Neighbour(link="vx4", address="10.8.0.0", mac="02:00:00:00:00:08"),
    Fdb(link="vx4", mac="02:00:00:00:00:08", dst="192.0.2.2"),
    Fdb(link="vx6", mac="02:00:00:00:00:08", dst="2001:db8::2"),
    Address(link="br0", address="10.0.0.1/24", nodad=True),
    Address(link="br0", address="fd00::1/64", nodad=True),
    Address(link="br0", address="fd00:9::1/64", nodad=True, noprefixroute=True),
    Neighbour(link="br0", address="10.0.0.9", mac="02:00:00:00:00:09"),
    Neighbour(link="br0", address="fd00::9", mac="02:00:00:00:00:09"),
    Neighbour(link="br0", address="10.0.0.10", proxy=True),
    Fdb(link="v0", mac="02:00:00:00:00:0a"),
    Qdisc(link="v0", kind="tbf", handle="1:", rate=10_000_000, burst=65536, limit=100_000),
    Qdisc(link="v0", kind="ingress", parent="ffff:fff1", handle="ffff:"),
    Qdisc(link="ifb7", kind="htb", handle="1:", default=1),
    TrafficClass(link="ifb7", parent="1:", handle="1:1", rate=50 * 10**9, ceil=60 * 10**9, burst=65536),
    Filter(link="v0", redirect="ifb7"),
    Route(dst="10.1.0.0/24", via="10.0.0.2", dev="br0"),
    Route(dst="10.2.0.0/24", type="blackhole"),
    Route(dst="10.8.0.0/24", via="10.8.0.0", dev="vx4", onlink=True),
    Route(dst="10.3.0.0/24", via="192.0.2.9", dev="br0", onlink=True, mtu=1300, metric=7, table=1000),
    Route(dst="fd00:1::/64", via="fd00::2", dev="br0", metric=1024),
    Route(dst="fd00:2::/64", type="blackhole", metric=1024),
    Rule(family=4, priority=100, table=1000, src="10.0.0.0/24"),
    Rule(family=6, priority=101, table=1000, dst="fd00::/64", fwmark=5, fwmask=0xFFFFFFFF),
]


@pytest.fixture
def rtnetlink(in_namespace: int) -> Iterator[Rtnetlink]:
    opened = Rtnetlink()
    yield opened
    opened.close()


def make(rtnetlink: Rtnetlink, objects: list[AnyObject], pod: int = -1) -> None:
    results = rtnetlink.apply([Op(o, None) for o in objects], {"pod": pod})
    assert [(r.op.key, r.error) for r in results if r.errno] == []


def dump(rtnetlink: Rtnetlink, like: AnyObject) -> dict[tuple[str, ...], AnyObject]:
    if isinstance(like, Filter | TrafficClass):
        parent = like.parent if isinstance(like, Filter) else ""
        return rtnetlink.dump(like.kind_name, link=like.link, parent=parent)
    return rtnetlink.dump(like.kind_name)


def test_a_pods_links_are_made_without_a_wait_for_all_processors(
    rtnetlink: Rtnetlink, pod_namespace: int
) -> None:
    """One queue an end, and an IFB is up once it has its bucket."""
    ifb = Link(name="ifb7", kind="ifb", alias="podway:x")
    bucket = Qdisc(link="ifb7", kind="tbf", handle="1:", rate=10_000_000, burst=65536, limit=100_000)
    monitor = Monitor()
    make(rtnetlink, [BRIDGE, VETH, ifb, bucket], pod_namespace)
    seen = [event.object for event in monitor.read()]
    monitor.close()
    bucket_at = next(at for at, one in enumerate(seen) if isinstance(one, Qdisc) and one.link == "ifb7")
    up_at = next(at for at, one in enumerate(seen) if isinstance(one, Link) and one.name == "ifb7" and one.up)
    assert bucket_at < up_at
    found = rtnetlink.get_link("ifb7")
    assert found is not None and found.up and found.alias == "podway:x"
    shown = [_shown("v0")]
    with namespaces.entered(pod_namespace):
        shown.append(_shown("eth0"))
    assert [(one["num_tx_queues"], one["num_rx_queues"]) for one in shown] == [(1, 1), (1, 1)]


def _shown(link: str) -> dict[str, Any]:
    done = subprocess.run(["ip", "-d", "-j", "link", "show", link], capture_output=True, check=True)
    (one,) = json.loads(done.stdout)
    assert isinstance(one, dict)
    return one


def test_everything_applied_is_seen_and_removed_again(rtnetlink: Rtnetlink, pod_namespace: int) -> None:
    make(rtnetlink, EVERYTHING, pod_namespace)
    for one in EVERYTHING:
        found = dump(rtnetlink, one)
        assert one.key in found, one
        assert matches(one, found[one.key], CREATION_ONLY.get(one.kind_name, ())), (one, found[one.key])
    results = rtnetlink.apply([Op(None, o) for o in reversed(EVERYTHING)])
    assert [(r.op.key, r.error) for r in results if r.errno] == []
    left = {key for kind in ("link", "address", "route", "rule") for key in rtnetlink.dump(kind)}
    assert not left & {o.key for o in EVERYTHING}


def test_the_peer_is_in_the_pod_with_its_mac_and_mtu(rtnetlink: Rtnetlink, pod_namespace: int) -> None:
    make(rtnetlink, [BRIDGE, VETH], pod_namespace)
    inside = Rtnetlink(pod_namespace)
    try:
        peer = inside.get_link("eth0")
    finally:
        inside.close()
    assert peer is not None and (peer.mac, peer.mtu) == ("02:00:00:00:00:03", 1400)
    assert rtnetlink.get_link("eth0") is None


def test_dumps_agree_with_pyroute2(rtnetlink: Rtnetlink, pod_namespace: int) -> None:
    make(rtnetlink, EVERYTHING, pod_namespace)
    oracle = pyroute2.IPRoute()
    try:
        names = {link["index"]: link.get_attr("IFLA_IFNAME") for link in oracle.get_links()}
        links = {
            (
                n.get_attr("IFLA_IFNAME"),
                n.get_attr("IFLA_ADDRESS"),
                n.get_attr("IFLA_MTU"),
                bool(n["flags"] & 1),
            )
            for n in oracle.get_links()
        }
        addresses = {
            (names[a["index"]], f"{a.get_attr('IFA_LOCAL') or a.get_attr('IFA_ADDRESS')}/{a['prefixlen']}")
            for a in oracle.get_addr()
            if a["scope"] != 253  # a link-local one comes by itself, at any moment
        }
        routes = {
            (r.get_attr("RTA_DST"), r["dst_len"], r.get_attr("RTA_GATEWAY") or "", r.get_attr("RTA_TABLE"))
            for family in (2, 10)
            for r in oracle.get_routes(family=family)
            if r["proto"] == 112
        }
    finally:
        oracle.close()
    ours = [o for o in rtnetlink.dump("link").values() if isinstance(o, Link)]
    assert {(o.name, o.mac, o.mtu, o.up) for o in ours} == links
    own = [o for o in rtnetlink.dump("address").values() if isinstance(o, Address)]
    assert {(o.link, o.address) for o in own if not o.address.startswith("fe80:")} == addresses
    mine = [o for o in rtnetlink.dump("route", protocol=112).values() if isinstance(o, Route)]
    shown = {(o.dst.partition("/")[0], int(o.dst.partition("/")[2]), o.via, o.table) for o in mine}
    assert shown == routes


def test_an_error_in_the_middle_stops_nothing_and_has_the_kernels_words(rtnetlink: Rtnetlink) -> None:
    bad = Route(dst="10.9.0.0/24", via="203.0.113.1", dev="br0")
    good = Route(dst="10.8.0.0/24", via="10.0.0.2", dev="br0")
    wanted: list[AnyObject] = [BRIDGE, Address(link="br0", address="10.0.0.1/24"), bad, good]
    results = rtnetlink.apply([Op(o, None) for o in wanted])
    assert [r.errno for r in results] == [0, 0, errno.ENETUNREACH, 0]
    assert "Nexthop has invalid gateway" in results[2].error
    assert good.key in rtnetlink.dump("route", protocol=112)


def test_a_link_that_is_not_there_is_named(rtnetlink: Rtnetlink) -> None:
    (result,) = rtnetlink.apply([Op(Address(link="nope", address="10.0.0.1/24"), None)])
    assert result.errno == errno.ENODEV and "nope" in result.error


def test_deleting_what_is_gone_is_success(rtnetlink: Rtnetlink) -> None:
    for one in (BRIDGE, Route(dst="10.1.0.0/24", type="blackhole"), Rule(family=4, priority=1, table=9)):
        assert rtnetlink.apply([Op(None, one)])[0].errno == 0


def test_changes_in_place(rtnetlink: Rtnetlink, pod_namespace: int) -> None:
    make(rtnetlink, [BRIDGE, VETH, Address(link="br0", address="10.0.0.1/24")], pod_namespace)
    have = rtnetlink.get_link("v0")
    port = BridgePort(hairpin=False, isolated=False)
    want = Link(name="v0", kind="veth", mac="02:00:00:00:00:77", mtu=1300, up=False, port=port, promisc=True)
    assert rtnetlink.apply([Op(want, have)])[0].errno == 0
    found = rtnetlink.get_link("v0")
    assert found is not None and matches(want, found, ("peer",))
    first = Route(dst="10.1.0.0/24", via="10.0.0.2", dev="br0")
    second = Route(dst="10.1.0.0/24", via="10.0.0.3", dev="br0")
    make(rtnetlink, [first])
    assert rtnetlink.apply([Op(second, first)])[0].errno == 0
    assert rtnetlink.dump("route", protocol=112)[first.key] == second


def test_replacing_an_ipv6_route_appends_no_sibling(rtnetlink: Rtnetlink) -> None:
    routes = [Route(dst="fd00:1::/64", via=f"fd00::{n}", dev="br0", metric=1024) for n in (2, 3)]
    make(rtnetlink, [BRIDGE, Address(link="br0", address="fd00::1/64", nodad=True), routes[0], routes[1]])
    assert rtnetlink.dump("route", protocol=112)[routes[0].key] == routes[1]


WAYS = [Route(dst="10.9.0.0/24", via=f"10.0.0.{n}", dev="br0", mtu=1400 + n) for n in (2, 3)]


def ways() -> list[str]:
    """The next hops of all routes to there, in the order in which the kernel asks them."""
    told = subprocess.run(["ip", "-j", "route", "show", WAYS[0].dst], capture_output=True, check=True).stdout
    return [one["gateway"] for one in json.loads(told)]


@pytest.fixture
def routed(rtnetlink: Rtnetlink) -> Rtnetlink:
    make(rtnetlink, [BRIDGE, Address(link="br0", address="10.0.0.1/24"), WAYS[0]])
    return rtnetlink


def test_an_ipv4_route_that_is_changed_is_never_without_one(routed: Rtnetlink) -> None:
    """The new one comes before the old one goes; the kernel's own replacement isn't so for who is reading."""
    monitor = Monitor()
    steps = [WAYS[0], WAYS[1], msgspec.structs.replace(WAYS[1], mtu=0), WAYS[1], WAYS[0]]
    for old, new in pairwise(steps):
        (result,) = routed.apply([Op(new, old)])
        assert not result.errno, result.error
        assert [(event.deleted, event.object) for event in monitor.read()] == [(False, new), (True, old)]
        assert routed.dump("route", protocol=112) == {new.key: new}
    monitor.close()


def test_a_route_that_can_not_stand_leaves_the_old_one(routed: Rtnetlink) -> None:
    lost = msgspec.structs.replace(WAYS[1], via="203.0.113.1")
    (result,) = routed.apply([Op(lost, WAYS[0])])
    assert (result.errno, result.error) == (
        errno.ENETUNREACH,
        "Network is unreachable: Nexthop has invalid gateway",
    )
    assert routed.dump("route", protocol=112) == {WAYS[0].key: WAYS[0]}


def test_a_route_that_is_wanted_as_it_stands_stays(routed: Rtnetlink) -> None:
    (result,) = routed.apply([Op(WAYS[0], WAYS[0])])
    assert not result.errno
    assert routed.dump("route", protocol=112) == {WAYS[0].key: WAYS[0]}


def test_a_change_of_a_route_that_was_cut_off_is_completed(routed: Rtnetlink) -> None:
    """Both stand, and the one that the kernel asks is the one that is seen."""
    subprocess.run(
        f"ip route append {WAYS[1].dst} via {WAYS[1].via} dev br0 proto 112 mtu 1403".split(), check=True
    )
    assert ways() == ["10.0.0.2", "10.0.0.3"]
    assert routed.dump("route", protocol=112) == {WAYS[0].key: WAYS[0]}
    (result,) = routed.apply([Op(WAYS[1], WAYS[0])])
    assert not result.errno
    assert ways() == ["10.0.0.3"]


def test_the_old_routes_link_may_be_gone(routed: Rtnetlink) -> None:
    """Its route went with it: nothing of the new one is deleted in its place."""
    gone = msgspec.structs.replace(WAYS[0], dev="away0")
    (result,) = routed.apply([Op(WAYS[0], gone)])
    assert not result.errno
    assert ways() == ["10.0.0.2"]


def test_routes_that_bird_makes_are_seen(rtnetlink: Rtnetlink) -> None:
    """With several next hops, of which the first is told, and with one of the other family."""
    commands = (
        "link add r0 type bridge",
        "link set r0 up",
        "address add 192.0.2.1/24 dev r0",
        "route add 10.9.0.0/26 proto bird metric 2048 nexthop via 192.0.2.2 nexthop via 192.0.2.3",
        "route add 10.9.0.64/26 proto bird metric 2048 via inet6 fe80::1 dev r0",
    )
    for command in commands:
        subprocess.run(["ip", *command.split()], check=True)
    routes = {r.dst: r for r in rtnetlink.dump("route", protocol=12).values() if isinstance(r, Route)}
    assert {dst: (r.via, r.dev) for dst, r in routes.items()} == {
        "10.9.0.0/26": ("192.0.2.2", "r0"),
        "10.9.0.64/26": ("fe80::1", "r0"),
    }


def test_many_routes_in_one_batch(rtnetlink: Rtnetlink) -> None:
    make(rtnetlink, [BRIDGE, Address(link="br0", address="10.0.0.1/24")])
    routes = [
        Route(dst=f"10.{64 + (n >> 8)}.{n & 255}.0/24", via="10.0.0.2", dev="br0") for n in range(12_000)
    ]
    make(rtnetlink, list(routes))
    assert len(rtnetlink.dump("route", protocol=112)) == 12_000
    some = {route.dst for route in routes[::4000]} | {"203.0.113.0/24"}
    found = rtnetlink.dump("route", protocol=112, to=some)
    assert found.keys() == {route.key for route in routes[::4000]}
    results = rtnetlink.apply([Op(None, one) for one in routes])
    assert not any(r.errno for r in results)
    assert rtnetlink.dump("route", protocol=112) == {}


def test_a_group_is_deleted_at_once(rtnetlink: Rtnetlink) -> None:
    make(rtnetlink, [Link(name=f"b{n}", kind="bridge", group=77) for n in range(20)])
    rtnetlink.delete_group(77)
    assert not [o for o in rtnetlink.dump("link").values() if isinstance(o, Link) and o.kind == "bridge"]
    rtnetlink.delete_group(77)


def test_events_tell_what_changed_and_who_did_it(rtnetlink: Rtnetlink) -> None:
    monitor = Monitor()
    try:
        make(rtnetlink, [BRIDGE, Address(link="br0", address="10.0.0.1/24")])
        own = [event for event in monitor.read() if event.portid == rtnetlink.portid]
        # (a link's events carry no sender)
        assert ("address", "br0", "10.0.0.1/24") in {event.key for event in own}
        subprocess.run(["ip", "route", "add", "10.5.0.0/24", "via", "10.0.0.2", "proto", "112"], check=True)
        subprocess.run(["ip", "route", "del", "10.5.0.0/24"], check=True)
        subprocess.run(["ip", "link", "del", "br0"], check=True)
        events = monitor.read()
    finally:
        monitor.close()
    foreign = [event for event in events if event.portid not in (0, rtnetlink.portid)]
    told = {(event.key, event.deleted) for event in foreign}
    assert (("route", "254", "10.5.0.0/24", "0"), False) in told
    assert (("route", "254", "10.5.0.0/24", "0"), True) in told
    assert (("link", "br0"), True) in {(event.key, event.deleted) for event in events}


def test_neighbours_are_told_of_tunnels_only(rtnetlink: Rtnetlink) -> None:
    def entry(dev: str) -> list[str]:
        return ["ip", "neigh", "add", "10.0.0.9", "lladdr", "02:00:00:00:00:09", "dev", dev]

    monitor = Monitor()
    try:
        make(rtnetlink, [BRIDGE, next(one for one in EVERYTHING if one.key == ("link", "vx4"))])
        monitor.read()  # the links, and with the tunnel the filter
        subprocess.run(entry("br0"), check=True)
        subprocess.run(entry("vx4"), check=True)
        subprocess.run(["ip", "neigh", "del", "10.0.0.9", "dev", "vx4"], check=True)
        subprocess.run(
            ["bridge", "fdb", "add", "02:00:00:00:00:09", "dev", "vx4", "dst", "192.0.2.9"], check=True
        )
        told = [(event.key, event.deleted) for event in monitor.read()]
        subprocess.run(["ip", "link", "del", "vx4"], check=True)
        monitor.read()
        subprocess.run(["ip", "neigh", "del", "10.0.0.9", "dev", "br0"], check=True)
        assert monitor.read() == []
    finally:
        monitor.close()
    neighbour = ("neighbour", "vx4", "10.0.0.9", "")
    assert (neighbour, False) in told and (neighbour, True) in told
    assert (("fdb", "vx4", "02:00:00:00:00:09", "192.0.2.9"), False) in told
    assert not [key for key, _ in told if key[0] in ("neighbour", "fdb") and key[1] == "br0"]


def test_forwarding_and_reverse_path_settings_are_told(rtnetlink: Rtnetlink) -> None:
    make(rtnetlink, [BRIDGE])
    monitor = Monitor()
    try:
        for setting in ("net.ipv4.ip_forward=1", "net.ipv4.conf.br0.rp_filter=2"):
            subprocess.run(["sysctl", "-qw", setting], check=True)
        told = {event.object for event in monitor.read() if event.kind == "sysctl"}
    finally:
        monitor.close()
    assert Sysctl(path="net/ipv4/ip_forward", value="1") in told
    assert Sysctl(path="net/ipv4/conf/br0/rp_filter", value="2") in told


def test_lost_events_are_told(rtnetlink: Rtnetlink) -> None:
    monitor = Monitor()
    try:
        make(rtnetlink, [BRIDGE, Address(link="br0", address="10.0.0.1/24")])
        monitor._socket._socket.setsockopt(1, 33, 2048)  # SO_RCVBUFFORCE: a buffer that a burst overflows
        routes = [Route(dst=f"10.66.{n}.0/24", via="10.0.0.2", dev="br0") for n in range(200)]
        make(rtnetlink, list(routes))
        assert Event(overflow=True) in monitor.read()
    finally:
        monitor.close()

"""The rtnetlink codecs: what is encoded is decoded again, for every kind, both families."""

from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from podway.kernel.netlink import address, link, neighbour, neighbour_filter, route, rule, traffic, wire
from podway.model.objects import (
    Address,
    BridgeOptions,
    BridgePort,
    Fdb,
    Filter,
    IpTunnelOptions,
    Link,
    Neighbour,
    Peer,
    PortVlan,
    Qdisc,
    Route,
    Rule,
    TrafficClass,
    VxlanOptions,
)

INDEX = {"lo": 1, "eth0": 2, "br0": 7, "vx": 9}
NAMES = {number: name for name, number in INDEX.items()}
links = st.sampled_from(sorted(INDEX))
ips = st.ip_addresses().map(str)
macs = st.binary(min_size=6, max_size=6).map(lambda raw: raw.hex(":"))


@st.composite
def prefixes(draw: st.DrawFn, family: int | None = None) -> str:
    ip = draw(st.ip_addresses(v=family) if family else st.ip_addresses())  # type: ignore[arg-type]
    length = draw(st.integers(0, ip.max_prefixlen))
    return str(ipaddress.ip_network(f"{ip}/{length}", strict=False))


def payload(request: bytes) -> bytes:
    (message,) = wire.messages(request)
    return message.payload


@st.composite
def routes(draw: st.DrawFn) -> Route:
    family = draw(st.sampled_from([4, 6]))
    one = st.ip_addresses(v=family).map(str)
    kind = draw(st.sampled_from(["unicast", "blackhole", "unreachable", "prohibit"]))
    unicast = kind == "unicast"
    return Route(
        dst=draw(prefixes(family)),
        dev=draw(links) if unicast else "",
        via=draw(st.one_of(st.just(""), one)) if unicast else "",
        table=draw(st.integers(1, 2**32 - 1)),
        metric=draw(st.integers(0, 2**32 - 1)),
        type=kind,
        scope="global" if family == 6 else draw(st.sampled_from(["global", "link", "host"])),
        protocol=draw(st.integers(0, 255)),
        src=draw(st.one_of(st.just(""), one)),
        onlink=draw(st.booleans()),
        mtu=draw(st.integers(0, 65535)),
    )


@given(routes())
def test_routes(one: Route) -> None:
    assert route.decode(payload(route.encode(one, INDEX)), NAMES) == one


@given(links, st.ip_addresses(), st.data(), st.booleans(), st.booleans())
def test_addresses(name: str, ip: object, data: st.DataObject, nodad: bool, noprefixroute: bool) -> None:
    length = data.draw(st.integers(0, ip.max_prefixlen))  # type: ignore[attr-defined]
    one = Address(link=name, address=f"{ip}/{length}", nodad=nodad, noprefixroute=noprefixroute)
    assert address.decode(payload(address.encode(one, INDEX[name])), NAMES) == one


@given(
    st.sampled_from([4, 6]),
    st.integers(0, 2**32 - 1),
    st.integers(1, 2**32 - 1),
    st.data(),
    st.sampled_from(["", "eth0"]),
    st.integers(0, 2**32 - 1),
    st.integers(0, 255),
)
def test_rules(
    family: int, priority: int, table: int, data: st.DataObject, iif: str, mark: int, protocol: int
) -> None:
    selector = st.one_of(st.just(""), prefixes(family))
    one = Rule(
        family=family,
        priority=priority,
        table=table,
        src=data.draw(selector),
        dst=data.draw(selector),
        iif=iif,
        fwmark=mark,
        fwmask=0xFFFFFFFF if mark else 0,
        protocol=protocol,
    )
    assert rule.decode(payload(rule.encode(one))) == one


@given(links, ips, macs, st.booleans())
def test_neighbours(name: str, ip: str, mac: str, proxy: bool) -> None:
    one = Neighbour(link=name, address=ip, mac="" if proxy else mac, proxy=proxy)
    assert neighbour.decode(payload(neighbour.encode(one, INDEX[name])), NAMES) == one


@given(links, macs, st.one_of(st.just(""), ips))
def test_forwarding_entries(name: str, mac: str, dst: str) -> None:
    one = Fdb(link=name, mac=mac, dst=dst)
    assert neighbour.decode(payload(neighbour.encode_fdb(one, INDEX[name])), NAMES) == one


@given(st.integers(8000, 10**11), st.integers(1500, 10**8), st.integers(1, 2**32 - 1))
def test_token_buckets(rate: int, burst: int, limit: int) -> None:
    rate -= rate % 8
    one = Qdisc(link="eth0", kind="tbf", handle="1:", rate=rate, burst=burst, limit=limit)
    found = traffic.decode_qdisc(payload(traffic.encode_qdisc(one, 2)), NAMES)
    assert found is not None and (found.rate, found.limit, found.handle) == (rate, limit, "1:")
    overflow = burst * 8_000_000 / rate * traffic.ticks_per_microsecond() > 2**32 - 2
    assert overflow or abs((found.burst or 0) - burst) <= max(64, rate // 8_000_000)


@given(st.integers(8000, 10**11), st.integers(8000, 10**11))
def test_classes_and_htb(rate: int, ceil: int) -> None:
    rate, ceil = rate - rate % 8, ceil - ceil % 8
    one = TrafficClass(link="eth0", parent="1:", handle="1:a", rate=rate, ceil=ceil, burst=15000)
    found = traffic.decode_class(payload(traffic.encode_class(one, 2)), NAMES)
    assert found is not None and (found.rate, found.ceil, found.handle) == (rate, ceil, "1:a")
    htb = Qdisc(link="eth0", kind="htb", handle="1:", default=10)
    assert traffic.decode_qdisc(payload(traffic.encode_qdisc(htb, 2)), NAMES) == htb


def test_filter() -> None:
    one = Filter(link="eth0", redirect="vx", priority=7)
    assert traffic.decode_filter(payload(traffic.encode_filter(one, 2, 9)), NAMES) == one


flags = {"stp": st.booleans(), "mcast_snooping": st.booleans(), "vlan_filtering": st.booleans()}
options = st.builds(BridgeOptions, **flags)


@given(macs, st.integers(68, 65535), options, st.integers(0, 2**31 - 1))
def test_bridges(mac: str, mtu: int, bridge: BridgeOptions, group: int) -> None:
    one = Link(name="br0", kind="bridge", mac=mac, mtu=mtu, bridge=bridge, group=group, txqlen=5)
    found = link.decode(payload(link.encode_create(one, 7, 0, None, 0)), NAMES)
    assert (found.name, found.kind, found.mac, found.mtu) == ("br0", "bridge", mac, mtu)
    assert (found.bridge, found.group, found.txqlen) == (bridge, group, 5)


@given(st.dictionaries(st.integers(1, 4094), st.tuples(st.booleans(), st.booleans())))
def test_vlans_of_a_port(given: dict[int, tuple[bool, bool]]) -> None:
    """As a message that sets them has them, so does one that tells; the order is that of the numbers."""
    vlans = tuple(PortVlan(vid, *flags) for vid, flags in sorted(given.items()))
    want = Link(name="p0", kind="veth", up=None, port=BridgePort(vlans=vlans))
    have = Link(name="p0", kind="veth", up=None, port=BridgePort(vlans=()))
    messages = link.encode_change(want, have, 7, 0)
    assert [link.decode_vlans(payload(one)) for one in messages] == ([(7, vlans)] if vlans else [])
    assert link.encode_change(want, want, 7, 0) == []
    assert len(link.encode_change(have, want, 7, 0)) == bool(vlans)


@given(macs, st.integers(1, 2**24 - 1), st.integers(1, 65535), ips, st.booleans(), st.booleans())
def test_vxlan_devices(mac: str, vni: int, port: int, local: str, learning: bool, checksum: bool) -> None:
    options = VxlanOptions(vni=vni, port=port, local=local, learning=learning, checksum=checksum)
    one = Link(name="vx", kind="vxlan", mac=mac, vxlan=options)
    found = link.decode(payload(link.encode_create(one, 7, 0, None, 0)), NAMES)
    assert (found.kind, found.mac, found.vxlan) == ("vxlan", mac, options)


@given(st.ip_addresses(v=6).map(str))
def test_routes_into_a_tunnel(outer: str) -> None:
    one = Route(dst="fd00:1::/64", dev="vx", metric=1024, outer=outer)
    assert route.decode(payload(route.encode(one, INDEX)), NAMES) == one


@given(ips.filter(lambda one: one not in ("::", "0.0.0.0")), st.booleans())
def test_ip_tunnels(local: str, external: bool) -> None:
    options = IpTunnelOptions(local=local, external=external)
    one = Link(name="tun", kind="ip6tnl" if ":" in local else "ipip", iptunnel=options)
    found = link.decode(payload(link.encode_create(one, 7, 0, None, 0)), NAMES)
    assert (found.kind, found.iptunnel) == (one.kind, options)


@given(st.sets(st.integers(1, 2**31 - 1), max_size=80))
def test_the_neighbour_filter_ends_on_every_way(indexes: set[int]) -> None:
    code = neighbour_filter.program(indexes)
    assert code[-1] == (neighbour_filter.RETURN, 0, 0, neighbour_filter.ALL)
    for at, (kind, yes, no, _) in enumerate(code):
        if kind == neighbour_filter.JUMP_EQUAL:
            assert at + 1 + max(yes, no) < len(code) and max(yes, no) <= 255


@given(st.booleans(), st.booleans(), st.text(alphabet="abcdef/:-", min_size=1, max_size=200))
def test_what_only_a_second_message_sets(hairpin: bool, isolated: bool, alias: str) -> None:
    one = Link(
        name="eth0",
        kind="veth",
        alias=alias,
        promisc=True,
        port=BridgePort(hairpin=hairpin, isolated=isolated),
        peer=Peer(name="x"),
    )
    first, second = link.encode_change(one, None, 2, 0)
    found = link.decode(payload(first), NAMES)
    assert (found.alias, found.up, found.promisc) == (alias, True, True)
    ported = link.decode(payload(second), NAMES).port
    assert ported is not None and (ported.hairpin, ported.isolated) == (hairpin, isolated)


def test_only_what_differs_is_sent() -> None:
    have = Link(name="eth0", kind="veth", alias="a", mac="02:00:00:00:00:01", mtu=1500, up=True)
    assert link.encode_change(have, have, 2, 0) == []
    (request,) = link.encode_change(Link(name="eth0", kind="veth", mtu=1400), have, 2, 0)
    assert set(wire.attributes(payload(request), link.IFINFO.size)) == {link.MTU}


@given(st.binary(max_size=400))
def test_garbage_is_never_more_than_a_short_read(data: bytes) -> None:
    for message in wire.messages(data):
        wire.attributes(message.payload)


@given(st.lists(st.tuples(st.integers(1, 100), st.binary(max_size=40)), max_size=8, unique_by=lambda t: t[0]))
def test_attributes(pairs: list[tuple[int, bytes]]) -> None:
    data = b"".join(wire.attribute(kind, value) for kind, value in pairs)
    assert wire.attributes(data) == dict(pairs)


@given(st.one_of(st.just("root"), st.tuples(st.integers(0, 0xFFFE), st.integers(0, 0xFFFF))))
def test_handles(value: str | tuple[int, int]) -> None:
    number = traffic.ROOT if value == "root" else (value[0] << 16) | value[1]  # type: ignore[operator]
    assert traffic.handle(traffic.handle_text(number)) == number

"""transport: ipip as planned: devices that networks share, routes, guard, direct where that is proved."""

from __future__ import annotations

import msgspec

from podway.model.documents import resolve
from podway.model.objects import Address, AnyObject, IpTunnelOptions, Link, NftElement, Route, Sysctl
from podway.model.resources import (
    Block,
    BlockSpec,
    IpipSpec,
    Network,
    NetworkSpec,
    Node,
    NodeFacts,
    NodeSpec,
    Paths,
    Pool,
    Snapshot,
    Uplink,
)
from podway.plan import mtu
from podway.plan.generation import Now, told
from podway.plan.path import Chosen, PathKey
from podway.plan.planner import Planner
from podway.plan.transport import carriage
from podway.plan.transport.ipip import device_name
from podway.plan.way import Way, by_family, parse, wanted, wishes

FOUR, SIX = Way("ipip", underlay=4), Way("ipip", underlay=6)
UPLINK = Uplink(name="up0", mtu=1500, addresses=("192.0.2.1/24", "2001:db8::1/64"))
FACTS = NodeFacts(name="a", uplinks=(UPLINK,), addresses=UPLINK.addresses)
ADDRESSES = {"a": UPLINK.addresses, "b": ("192.0.2.2/24", "2001:db8::2/64"), "c": ("203.0.113.3/24",)}


def network(name: str = "net1", number: int = 1, **spec: object) -> Network:
    pools = (Pool(cidr=f"10.{number}.0.0/16"), Pool(cidr=f"fd00:{number}::/48"))
    return Network(name=name, spec=NetworkSpec(**({"pools": pools, "transport": "ipip"} | spec)))  # type: ignore[arg-type]


def planned(*networks: Network, told: Paths | None = None) -> Planner:
    blocks = {}
    for number in range(1, len(networks) + 1):
        for third, node in enumerate(ADDRESSES, 1):
            spec = BlockSpec(network=f"net{number}", node=node, attach="routed")
            for cidr in (f"10.{number}.0.{64 * third}/26", f"fd00:{number}:0:{third}::/122"):
                blocks[cidr] = Block(cidr=cidr, spec=spec)
    paths = {one.name: told for one in networks if told is not None}
    nodes = {
        name: Node(name=name, spec=NodeSpec(addresses=own), paths=paths) for name, own in ADDRESSES.items()
    }
    planner = Planner(FACTS)
    every = {one.name: one for one in networks}
    planner.update_snapshot(Snapshot(networks=every, nodes=nodes, blocks=blocks, synced=True))
    return planner


def found(planner: Planner, kind: type[AnyObject]) -> list[AnyObject]:
    return [one for key, one in sorted(planner.desired.items()) if isinstance(one, kind)]


def links(planner: Planner) -> dict[str, Link]:
    return {one.name: one for one in found(planner, Link) if isinstance(one, Link) and carriage(one)}


def test_the_objects_of_a_dual_stack_network() -> None:
    """A device, an address and a route of each family; the peer without IPv6 is named."""
    planner = planned(network(attach="routed"))
    four, six = device_name(FOUR), device_name(SIX)
    assert links(planner) == {
        four: Link(
            name=four,
            kind="ipip",
            alias="podway:ipip:4",
            mtu=1480,
            iptunnel=IpTunnelOptions(local="192.0.2.1"),
        ),
        six: Link(
            name=six, kind="ip6tnl", alias="podway:ipip:6", mtu=1460, iptunnel=IpTunnelOptions(external=True)
        ),
    }
    routes = {
        one.dst: one for one in found(planner, Route) if isinstance(one, Route) and one.dev in (four, six)
    }
    assert routes == {
        "10.1.0.128/26": Route(dst="10.1.0.128/26", via="192.0.2.2", dev=four, onlink=True),
        "10.1.0.192/26": Route(dst="10.1.0.192/26", via="203.0.113.3", dev=four, onlink=True),
        "fd00:1:0:2::/122": Route(dst="fd00:1:0:2::/122", dev=six, outer="2001:db8::2", metric=1024),
    }
    assert planner.desired["address", four, "10.1.0.64/32"] == Address(
        link=four, address="10.1.0.64/32", nodad=True
    )
    assert ("address", six, "fd00:1:0:1::/128") in planner.desired
    assert Sysctl(path=f"net/ipv4/conf/{four}/rp_filter", value="2") in planner.desired.values()
    (note,) = planner.notes
    assert (
        note.subject.startswith("peer c block fd00:1:0:3") and "no IPv6 address to tunnel to" in note.reason
    )


def test_only_nodes_may_send() -> None:
    """The guard's sets: where tunnels end here, and the addresses of nodes."""
    elements = {
        one.set: one.value for one in found(planned(network()), NftElement) if isinstance(one, NftElement)
    }
    assert elements["tunnels4"] == ("192.0.2.1",) and elements["tunnels6"] == ("2001:db8::1",)
    assert ("nftelement", "inet", "nodes4", "203.0.113.3") in planned(network()).desired
    chain = planned(network()).desired["nftchain", "inet", "tunnels"]
    assert [rule.text for rule in chain.rules] == [  # type: ignore[union-attr]
        "meta l4proto 4 ip daddr @tunnels4 ip saddr != @nodes4 counter drop",
        "meta l4proto 41 ip6 daddr @tunnels6 ip6 saddr != @nodes6 counter drop",
    ]
    other = planned(network(transport="vxlan"))
    assert ("nftchain", "inet", "tunnels") not in other.desired


def test_networks_share_the_devices_which_are_as_large_as_any_needs() -> None:
    """The kernel has one end of IPIP at an address, and a packet says nothing of its network."""
    planner = planned(network(), network("net2", 2, mtu=1300))
    assert not planner.conflicts
    assert {one.mtu for one in links(planner).values()} == {1480, 1460}
    alone = planned(network(mtu=1300))
    assert {one.mtu for one in links(alone).values()} == {1300}
    planner.update_snapshot(Snapshot(synced=True))
    assert not links(planner)


def test_pods_get_what_the_wider_header_leaves() -> None:
    assert mtu.effective(network(), FACTS) == 1460
    only4 = network(pools=(Pool(cidr="10.1.0.0/16"),))
    only6 = network(pools=(Pool(cidr="fd00:1::/48"),))
    assert (mtu.effective(only4, FACTS), mtu.effective(only6, FACTS)) == (1480, 1460)
    assert (wanted(only4.spec), wanted(only6.spec)) == (FOUR, SIX)


def test_directly_to_a_neighbour_that_is_proved() -> None:
    """calico-crosssubnet: without the tunnel within the subnet, and by it across."""
    pools = network().spec.pools
    cross = resolve(Network(name="net1", spec=NetworkSpec(pools=pools, preset="calico-crosssubnet")))
    assert (cross.spec.attach, cross.spec.transport) == ("routed", "ipip")
    assert cross.spec.ipip == IpipSpec(direct_within_subnet=True)
    assert [way.text for way in wishes(cross.spec)] == ["host-gw", "ipip:4"]
    planner = planned(cross)
    planner.update_paths({PathKey("net1", "b", 4): Chosen("direct", "proved")})
    assert planner.desired["route", "254", "10.1.0.128/26", "0"] == Route(
        dst="10.1.0.128/26", via="192.0.2.2", dev="up0"
    )
    for family in (4, 6):
        target = planner.targets.by_path[PathKey("net1", "b", family)]
        assert (target.fallback, target.obstacle) == ("tunnel", "")
    across = planner.desired["route", "254", "10.1.0.192/26", "0"]
    assert isinstance(across, Route) and across.dev == device_name(FOUR)
    always = resolve(msgspec.structs.replace(cross, spec=NetworkSpec(pools=pools, preset="calico-ipip")))
    assert [way.text for way in wishes(always.spec)] == ["ipip:4"]


def test_texts_of_ways() -> None:
    assert [parse("ipip:4"), parse("ipip:6")] == [FOUR, SIX] == list(by_family(network().spec))
    assert parse("ipip") is parse("ipip:4:1") is parse("ipip:x") is None
    assert FOUR.carries(4) and not FOUR.carries(6) and Way("vxlan").carries(6)


def test_what_probes_call_it() -> None:
    """ "protocol 4 blocked", when only the tunnel's packets vanish."""
    one, other = (
        carriage(link) for _, link in sorted(links(planned(network())).items(), key=lambda x: x[1].kind)
    )
    assert (one, other) == (("protocol 41", 40, 6), ("protocol 4", 20, 4))


def test_what_leads_to_peers_of_both_families_is_told() -> None:
    """Each peer might be a neighbour, which is asked first: what leads to the others is told all the same."""
    ways = ("host-gw", "ipip:4", "ipip:6")
    first = Paths(accepts=ways, sends=ways[:2])
    planner = planned(network(ipip=IpipSpec(direct_within_subnet=True)), told=first)
    found = told(planner, Now({"net1": first}, lambda _: True, {}), frozenset())
    assert found["net1"].sends == ways

"""Generated clusters: networks, nodes, blocks and endpoints that hang together, more or less."""

from __future__ import annotations

from hypothesis import strategies as st

from podway.model import names
from podway.model.lending import Borrow, BorrowSpec
from podway.model.resources import (
    Bandwidth,
    Block,
    BlockSpec,
    BridgeSpec,
    Endpoint,
    ForeignBlock,
    IpipSpec,
    Network,
    NetworkSpec,
    Node,
    NodeFacts,
    NodeSpec,
    Paths,
    Pool,
    PortMap,
    Snapshot,
    Uplink,
    VxlanSpec,
)
from podway.plan.path import Chosen, PathKey

ME = "node-a"
NODES = (ME, "node-b", "node-c")
FACTS = NodeFacts(
    name=ME, uplinks=(Uplink(name="up0", mtu=1500, addresses=("192.0.2.1/24", "2001:db8::1/64")),)
)

attachments = st.sampled_from(["bridge", "routed"])
networks = st.builds(
    lambda number, attach, transport, direct, interop, masquerade, guard, hairpin, isolated: Network(
        name=f"net{number}",
        spec=NetworkSpec(
            pools=(Pool(cidr=f"10.{number}.0.0/16"), Pool(cidr=f"fd00:{number}::/48")),
            attach=attach,
            transport=transport,
            vxlan=VxlanSpec(direct_within_subnet=direct),
            ipip=IpipSpec(direct_within_subnet=direct),
            masquerade=masquerade,
            spoof_protection=guard,
            bridge=BridgeSpec(hairpin=hairpin, isolated=isolated),
            interop=interop if transport in ("vxlan", "host-gw") else "",
        ),
    ),
    st.integers(1, 2),
    attachments,
    st.sampled_from(["none", "host-gw", "vxlan", "ipip"]),
    st.booleans(),
    st.sampled_from(["", "flannel-etcd"]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
ways = st.sampled_from(
    ["none", "host-gw", "vxlan:1:8472:4", "vxlan:2:8472:4", "vxlan:1:8472:6", "ipip:4", "ipip:6", "later:1"]
)
paths = st.dictionaries(
    st.sampled_from(["net1", "net2"]),
    st.builds(
        Paths,
        accepts=st.lists(ways, max_size=2).map(tuple),
        sends=st.lists(ways, max_size=2).map(tuple),
        mtu=st.sampled_from([0, 1300, 1450, 8950]),
    ),
)
holes = st.dictionaries(
    st.sampled_from(NODES),
    st.dictionaries(st.sampled_from(["net1/4", "net2/4", "net1/6"]), st.sampled_from([600, 1299, 1400])),
)
nodes = st.builds(
    lambda name, number, six, said, macs: Node(
        name=name,
        paths=said,
        macs=macs,
        spec=NodeSpec(addresses=(f"192.0.2.{number}/24", *([f"2001:db8::{number}/64"] if six else []))),
    ),
    st.sampled_from(NODES),
    st.integers(2, 9),
    st.booleans(),
    paths,
    st.sampled_from([(), ("02:00:00:00:00:02",)]),
)
chosen = st.dictionaries(
    st.builds(PathKey, st.sampled_from(["net1", "net2"]), st.sampled_from(NODES), st.sampled_from([4, 6])),
    st.one_of(st.none(), st.builds(Chosen, st.sampled_from(["direct", "tunnel", "none"]), st.just("why"))),
)
blocks = st.builds(
    lambda network, third, six, node, attach: Block(
        cidr=f"fd00:{network}:0:{third}::/64" if six else f"10.{network}.{third}.0/24",
        spec=BlockSpec(network=f"net{network}", node=node, attach=attach),
    ),
    st.integers(1, 2),
    st.integers(1, 3),
    st.booleans(),
    st.sampled_from(NODES),
    attachments,
)

borrows = st.builds(
    lambda network, last, six, node: Borrow(
        address=f"fd00:{network}:0:1::{last:x}" if six else f"10.{network}.1.{last}",
        spec=BorrowSpec(network=f"net{network}", node=node),
    ),
    st.integers(1, 3),  # 3: a network that nobody knows
    st.integers(10, 12),  # which a pod may have too
    st.booleans(),
    st.sampled_from(NODES),
)

foreigns = st.builds(
    lambda network, third, six, number, named: ForeignBlock(
        cidr=f"fd00:{network}:0:{third}::/64" if six else f"10.{network}.{third}.0/24",
        network=f"net{network}",
        address=f"2001:db8::{number}" if six else f"192.0.2.{number}",
        mac=f"0e:00:00:00:00:{number}" if named else "",  # one address a MAC: see node.flannel
    ),
    st.integers(1, 2),
    st.integers(1, 4),
    st.booleans(),
    st.integers(20, 22),
    st.booleans(),
)


def endpoint(
    number: int,
    network: int = 1,
    ports: tuple[PortMap, ...] = (),
    rate: int = 0,
    attach: str = "bridge",
) -> Endpoint:
    """Endpoint ``number`` of ``net<network>``."""
    container = f"c{number}"
    routed = attach == "routed"
    four, six = f"10.{network}.1.{number + 10}", f"fd00:{network}:0:1::{number + 10:x}"
    hops = (f"10.{network}.1.1", f"fd00:{network}:0:1::1")
    return Endpoint(
        container=container,
        ifname="eth0",
        network=f"net{network}",
        addresses=(f"{four}/32", f"{six}/128") if routed else (f"{four}/24", f"{six}/64"),
        gateways=tuple(names.ROUTED_GATEWAYS.values()) if routed else hops,
        bridge="" if routed else names.bridge(f"net{network}"),
        mac=names.pod_mac(four),
        host_link=names.host_link(container, "eth0"),
        mtu=1500,
        ports=ports,
        bandwidth=Bandwidth(ingress_rate=rate, egress_rate=rate),
    )


ports = st.builds(
    PortMap,
    host_port=st.integers(8080, 8083),
    container_port=st.just(80),
    protocol=st.sampled_from(["tcp", "udp"]),
)
endpoints = st.builds(
    endpoint,
    st.integers(0, 5),
    st.integers(1, 2),
    st.lists(ports, max_size=2).map(tuple),
    st.sampled_from([0, 10_000_000]),
    attachments,
)


def _by(name: str, values: list) -> dict:  # type: ignore[type-arg]
    return {getattr(value, name): value for value in values}


snapshots = st.builds(
    lambda n, m, b, f, lent: Snapshot(
        networks=_by("name", n),
        nodes=_by("name", m),
        blocks=_by("cidr", b),
        foreigns=_by("cidr", f),
        borrows=_by("address", lent),
        synced=True,
    ),
    st.lists(networks, max_size=2),
    st.lists(nodes, max_size=3),
    st.lists(blocks, max_size=6),
    st.lists(foreigns, max_size=3),
    st.lists(borrows, max_size=3),
)

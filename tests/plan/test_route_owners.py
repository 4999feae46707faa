"""Who programs a route to a peer's block: BIRD where BGP carries the network, else the agent; never both."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from podway.model.objects import Route
from podway.model.resources import (
    Block,
    BlockSpec,
    Network,
    NetworkSpec,
    Node,
    NodeFacts,
    NodeSpec,
    Pool,
    Snapshot,
    Uplink,
    VxlanSpec,
)
from podway.plan.planner import Planner

UPLINK = Uplink(name="up0", mtu=1500, addresses=("192.0.2.1/24", "2001:db8::1/64"))
FACTS = NodeFacts(name="a", uplinks=(UPLINK,), addresses=UPLINK.addresses)
ADDRESSES = {
    "a": UPLINK.addresses,
    "b": ("192.0.2.2/24", "2001:db8::2/64"),
    "c": ("192.0.2.3/24", "2001:db8::3/64"),
}
NODES = {name: Node(name=name, spec=NodeSpec(addresses=own)) for name, own in ADDRESSES.items()}


def _cluster(transports: list[str]) -> Snapshot:
    """A network of each transport, of which every node has a block in both families."""
    networks, blocks = {}, {}
    for number, transport in enumerate(transports):
        pools = (Pool(cidr=f"10.{number}.0.0/16"), Pool(cidr=f"fd00:{number}::/48"))
        name = f"net{number}"
        spec = NetworkSpec(pools=pools, transport=transport, attach="routed", vxlan=VxlanSpec(vni=number + 1))  # type: ignore[arg-type]
        networks[name] = Network(name=name, spec=spec)
        for third, node in enumerate(NODES):
            for cidr in (f"10.{number}.0.{64 * third}/26", f"fd00:{number}:0:{third}::/122"):
                blocks[cidr] = Block(cidr=cidr, spec=BlockSpec(network=name, node=node, attach="routed"))
    return Snapshot(networks=networks, nodes=NODES, blocks=blocks, synced=True)


@given(
    st.lists(
        st.lists(st.sampled_from(["bgp", "ipip", "vxlan"]), min_size=1, max_size=4), min_size=1, max_size=4
    ),
    st.booleans(),
)
def test_each_network_has_one_owner_of_its_routes(steps: list[list[str]], learned: bool) -> None:
    """Whatever stands beside it, and whatever stood there before. What BIRD takes from others and tells them
    are prefixes of the networks that BGP carries; the agent has a route to every peer's block of the rest."""
    planner = Planner(FACTS)
    for transports in steps:
        snapshot = _cluster(transports)
        planner.update_snapshot(snapshot)
        planner.update_learned(snapshot.blocks.keys() if learned else set())
        by_bgp = {f"net{number}" for number, transport in enumerate(transports) if transport == "bgp"}
        peers = {
            cidr: block.spec.network for cidr, block in snapshot.blocks.items() if block.spec.node != "a"
        }
        routes = {one.dst for one in planner.desired.values() if isinstance(one, Route)}
        assert routes & peers.keys() == {cidr for cidr, network in peers.items() if network not in by_bgp}
        told = planner.speaker().speaker
        assert (told is not None) == bool(by_bgp)
        if told is not None:
            assert set(told.pools) == {
                pool.cidr for name in by_bgp for pool in snapshot.networks[name].spec.pools
            }
            assert set(told.own) == {
                cidr
                for cidr, block in snapshot.blocks.items()
                if block.spec.node == "a" and block.spec.network in by_bgp
            }

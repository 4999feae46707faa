"""Passes are wanted of networks that ask for them, in chains that see their family, and nowhere else."""

from __future__ import annotations

import msgspec

from podway.model.gate import Gate, Where
from podway.model.resources import Network, NetworkSpec, NodeFacts, Pool
from podway.plan import passage

WHERE = [Where("nftables", family, "filter", "FORWARD") for family in ("ip", "ip6", "inet")]
FACTS = NodeFacts(name="a", gates=tuple(Gate(where, "its policy is drop") for where in WHERE))
POOLS = (Pool(cidr="10.244.0.0/16"), Pool(cidr="fd00::/48"))
ASKS = Network(name="pods", spec=NetworkSpec(pools=POOLS, firewall="manage"))


def test_each_prefix_both_ways_in_every_chain_that_sees_its_family() -> None:
    wanted = {(one.where.family, one.side, one.prefix) for one in passage.network(ASKS, FACTS)}
    four, six = (pool.cidr for pool in POOLS)
    pairs = [("ip", four), ("inet", four), ("ip6", six), ("inet", six)]
    assert wanted == {(family, side, cidr) for family, cidr in pairs for side in ("saddr", "daddr")}
    assert len({one.key for one in passage.network(ASKS, FACTS)}) == 8


def test_an_administrators_chain_is_asked_where_iptables_is() -> None:
    legacy = Where("iptables-legacy", "ip", "filter", "FORWARD")
    for gates, where in (((), Where("nftables", "ip", "filter", "FORWARD")), ((Gate(legacy, "x"),), legacy)):
        (one, other) = passage.before(["10.0.0.2/32"], "SITE", NodeFacts(name="a", gates=gates))
        assert (one.where, one.side, other.side, one.first) == (where, "saddr", "daddr", "SITE")
    assert not passage.before(["10.0.0.2/32"], "", FACTS)


def test_nothing_where_it_is_not_asked_for_or_nothing_drops() -> None:
    silent = msgspec.structs.replace(ASKS, spec=NetworkSpec(pools=POOLS))
    assert not passage.network(silent, FACTS)
    assert not passage.network(ASKS, NodeFacts(name="a"))

"""Judging a change at a time says what judging the whole would, also of claims that contradict each other."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

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
)
from podway.plan.doubts import judge
from podway.plan.judging import Judge

FACTS = NodeFacts(
    name="a",
    uplinks=(Uplink(name="up0", mtu=1500, addresses=("192.0.2.1/24", "2001:db8::1/64")),),
    others=("10.1.9.1/24",),
)
NETWORKS = {
    "x": Network(name="x", spec=NetworkSpec(pools=(Pool(cidr="10.1.0.0/16"), Pool(cidr="fd00:1::/48")))),
    "y": Network(name="y", spec=NetworkSpec(pools=(Pool(cidr="10.2.0.0/16", block_size=26),))),
}

CIDRS = (
    *("10.1.1.0/24", "10.1.3.0/24", "10.1.9.0/24", "10.1.1.0/25", "10.1.0.0/20"),
    *("10.2.0.0/26", "10.2.0.64/26", "10.2.0.0/24", "fd00:1:0:1::/64", "fd00:1:0:2::/64"),
    *("0.0.0.0/0", "10.3.0.0/24"),
)
addresses = st.sampled_from(
    [
        "192.0.2.1/24",
        "192.0.2.2/24",
        "192.0.2.3/24",
        "10.1.3.7/24",
        "10.2.0.70/16",
        "2001:db8::2/64",
        "fd00:1:0:1::5/64",
    ]
)
nodes = st.builds(
    lambda name, held: Node(name=name, spec=NodeSpec(addresses=tuple(held))),
    st.sampled_from("abc"),
    st.lists(addresses, max_size=2, unique=True),
)
blocks = st.builds(
    lambda cidr, network, node: Block(cidr=cidr, spec=BlockSpec(network=network, node=node, attach="bridge")),
    st.sampled_from(CIDRS),
    st.sampled_from(["x", "y", "z"]),
    st.sampled_from("abc"),
)
changes = st.lists(
    st.one_of(nodes, blocks, st.tuples(st.sampled_from(["node", "block"]), st.integers(0, 20))), max_size=25
)


@given(changes)
def test_as_the_whole(steps: list[object]) -> None:
    keeping = Judge()
    known: dict[str, Node] = {}
    claimed: dict[str, Block] = {}
    for step in steps:
        if isinstance(step, Node):
            known[step.name] = step
        elif isinstance(step, Block):
            claimed[step.cidr] = step
        elif isinstance(step, tuple):
            whose: dict[str, object] = known if step[0] == "node" else claimed  # type: ignore[assignment]
            if whose:
                del whose[sorted(whose)[step[1] % len(whose)]]
        now = Snapshot(networks=NETWORKS, nodes=dict(known), blocks=dict(claimed), synced=True)
        kept, whole = keeping.step(now, FACTS), judge(now, FACTS)
        assert kept.snapshot == whole.snapshot and kept.doubts == whole.doubts and kept.closed == whole.closed
        assert kept.avoid.keys() == whole.avoid.keys()

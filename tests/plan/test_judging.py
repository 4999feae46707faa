"""What is in doubt after a change is what is in doubt of the whole."""

from __future__ import annotations

import random
import sys
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
import strategies as cluster

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


@settings(max_examples=100)
@given(st.lists(cluster.snapshots, max_size=6))
def test_any_sequence_of_clusters(snapshots: list[Snapshot]) -> None:
    """Clusters with little in common and much in doubt."""
    patient = Judge()
    for snapshot in snapshots:
        assert patient.step(snapshot, cluster.FACTS) == judge(snapshot, cluster.FACTS)


def test_small_changes_of_a_cluster_that_is_mostly_right() -> None:
    """Nodes and blocks come, change and go; now and then one that can't be right."""
    uplink = Uplink(name="eth0", mtu=1500, addresses=("192.0.2.1/24",))
    facts = NodeFacts(name="n1", uplinks=(uplink,))
    network = Network(name="net", spec=NetworkSpec(pools=(Pool(cidr="10.0.0.0/8"),)))
    calm = doubtful = 0
    for seed in range(60):
        dice = random.Random(seed)
        patient = Judge()
        nodes: dict[str, Node] = {}
        blocks: dict[str, Block] = {}
        for _ in range(60):
            nodes, blocks = dict(nodes), dict(blocks)
            number = dice.randrange(1, 12)
            odd = dice.random() < 0.05
            if dice.random() < 0.5:
                nodes.pop(f"n{number}", None)
                if dice.random() < 0.8:
                    address = f"192.0.2.{dice.randrange(1, 12) if odd else number}/24"
                    more = [f"10.{number}.0.9/8"] if odd and dice.random() < 0.5 else []
                    spec = NodeSpec(addresses=(address, *more, f"2001:db8::{number:x}/64"))
                    nodes[f"n{number}"] = Node(name=f"n{number}", spec=spec)
            else:
                cidr = dice.choice(["192.0.2.0/24", "10.1.0.0/16"]) if odd else f"10.{number}.0.0/24"
                if blocks.pop(cidr, None) is None:
                    spec_ = BlockSpec(network="net", node=f"n{number}", attach="bridge")
                    blocks[cidr] = Block(cidr=cidr, spec=spec_)
            snapshot = Snapshot(networks={"net": network}, nodes=nodes, blocks=blocks, synced=True)
            expected = judge(snapshot, facts)
            assert patient.step(snapshot, facts) == expected
            calm, doubtful = calm + (not expected.doubts), doubtful + bool(expected.doubts)
    assert calm > 100 and doubtful > 100

"""Only what leaves the cluster is masqueraded; every receiver inside sees the pod's own address."""

from __future__ import annotations

from pathlib import Path

import harness
import pytest

pytestmark = pytest.mark.kernel


def _own(endpoint: object, family: int) -> str:
    addresses: tuple[str, ...] = endpoint.addresses  # type: ignore[attr-defined]
    return addresses[0 if family == 4 else 1].partition("/")[0]


@pytest.mark.parametrize("family", [4, 6])
def test_who_is_seen(tmp_path: Path, in_namespace: int, family: int) -> None:
    outside = harness.OUTSIDE4 if family == 4 else harness.OUTSIDE6
    node = harness.NODE4 if family == 4 else harness.NODE6
    with harness.scene(tmp_path) as scene:
        one, first = scene.pod("one")
        two, second = scene.pod("two")
        mine = _own(first, family)
        with harness.server(scene.outside, 80, family=family):
            assert harness.ask(one, outside, 80) == node
        with harness.server(two, 80, family=family):
            assert harness.ask(one, _own(second, family), 80) == mine
            assert harness.ask(scene.node, _own(second, family), 80) is not None
            assert harness.ask(scene.outside, _own(second, family), 80) == outside
        with harness.server(scene.node, 80, family=family):
            assert harness.ask(one, node, 80) == mine


def test_switched_off_the_pod_is_seen_outside(tmp_path: Path, in_namespace: int) -> None:
    with harness.scene(tmp_path, masquerade=False) as scene:
        pod, own = scene.pod("one")
        with harness.server(scene.outside, 80):
            assert harness.ask(pod, harness.OUTSIDE4, 80) == _own(own, 4)


def test_pods_of_two_blocks_reach_each_other_unmasqueraded(tmp_path: Path, in_namespace: int) -> None:
    with harness.scene(tmp_path, pools=[{"cidr": "10.244.0.0/24", "blockSize": 29}]) as scene:
        made = [scene.pod(f"p{number}") for number in range(7)]
        blocks = {scene.engine.planner.inputs.blocks[b].cidr for b in scene.engine.planner.inputs.blocks}
        assert len(blocks) == 2
        (first, own), (last, other) = made[0], made[-1]
        assert own.gateways != other.gateways
        with harness.server(last, 80):
            assert harness.ask(first, _own(other, 4), 80) == _own(own, 4)

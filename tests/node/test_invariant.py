"""Over generated clusters, on the real kernel: apply, observe, the difference is empty; and after a
change, and interrupted after any prefix of the operations, the next pass still gets there."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

sys.path.insert(0, str(Path(__file__).parent.parent / "plan"))
import strategies as cluster

from podway.kernel import namespaces
from podway.kernel.facade import Kernel
from podway.model.objects import Address, Link, Op
from podway.model.resources import Endpoint, Snapshot
from podway.node.reconciler import plan_pass
from podway.plan.planner import Planner

pytestmark = pytest.mark.kernel


def _uplink(kernel: Kernel) -> None:
    kernel.apply(
        [
            Op(Link(name="lo", kind=""), Link(name="lo", kind="", up=False)),
            Op(Link(name="up0", kind="bridge"), None),
            Op(Address(link="up0", address="192.0.2.1/24", nodad=True), None),
            Op(Address(link="up0", address="2001:db8::1/64", nodad=True), None),
        ]
    )


def _possible(snapshot: Snapshot) -> Snapshot:
    """Without IPIP, which many a kernel hasn't: tests/guest has that."""

    def ways(texts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(text for text in texts if not text.startswith("ipip"))

    networks = {
        name: replace(one, spec=replace(one.spec, transport="vxlan")) if one.spec.transport == "ipip" else one
        for name, one in snapshot.networks.items()
    }
    nodes = {
        name: replace(
            one,
            paths={n: replace(p, accepts=ways(p.accepts), sends=ways(p.sends)) for n, p in one.paths.items()},
        )
        for name, one in snapshot.nodes.items()
    }
    return replace(snapshot, networks=networks, nodes=nodes)


def _plan(snapshot: Snapshot, endpoints: list[Endpoint]) -> Planner:
    planner = Planner(cluster.FACTS)
    planner.update_snapshot(snapshot)
    for endpoint in endpoints:
        if endpoint.network in snapshot.networks:
            planner.update_endpoint(endpoint.id, endpoint)
    return planner


def _pods(planner: Planner, made: dict[str, int]) -> dict[str, int]:
    for name in planner.inputs.endpoints:
        if name not in made:
            made[name] = namespaces.create()
    return made


def _reach(kernel: Kernel, planner: Planner, pods: dict[str, int]) -> None:
    """At most three passes: what waits for another thing of the same pass comes in the next."""
    for _ in range(3):
        ops, refusals, _ = plan_pass(kernel, planner, ())
        assert not refusals
        if not ops:
            return
        kernel.apply(ops, pods)
    ops, _, _ = plan_pass(kernel, planner, ())
    assert ops == ()


@settings(max_examples=25)
@given(
    cluster.snapshots.map(_possible),
    cluster.snapshots.map(_possible),
    st.lists(cluster.endpoints, max_size=3, unique_by=lambda e: e.id),
    st.lists(cluster.endpoints, max_size=3, unique_by=lambda e: e.id),
    st.floats(0, 1),
)
def test_any_prefix_converges(
    first: Snapshot, second: Snapshot, before: list[Endpoint], after: list[Endpoint], cut: float
) -> None:
    node = namespaces.create()
    pods: dict[str, int] = {}
    try:
        with namespaces.entered(node):
            kernel = Kernel()
            try:
                _uplink(kernel)
                planner = _plan(first, before)
                _reach(kernel, planner, _pods(planner, pods))
                planner = _plan(second, after)
                _pods(planner, pods)
                ops, _, _ = plan_pass(kernel, planner, ())
                kernel.apply(ops[: int(len(ops) * cut)], pods)
                _reach(kernel, planner, pods)
            finally:
                kernel.close()
    finally:
        for fd in (*pods.values(), node):
            os.close(fd)

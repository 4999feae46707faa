"""What a pass would do now, read only: beside a running agent, without its lock."""

from __future__ import annotations

from podway.delta.differ import Refusal
from podway.kernel.facade import Kernel
from podway.model.objects import Op
from podway.node import holes
from podway.node.cluster import Cluster
from podway.node.database import Database
from podway.node.reconciler import plan_pass
from podway.plan.planner import Planner


def preview(node: str, state_dir: str, store_url: str) -> tuple[tuple[Op, ...], tuple[Refusal, ...]]:
    """Ordered operations and refusals. Raises Unavailable when store or database can't be read."""
    kernel = Kernel()
    database = Database.open(state_dir, readonly=True)
    cluster = Cluster(node, store_url, database)
    try:
        cluster.refresh(remember=False)
        planner = Planner(kernel.facts(node, cluster.adopted_bridges))
        planner.update_holes(holes.load(state_dir))
        planner.update_snapshot(cluster.snapshot)
        for endpoint, _ in database.endpoints().values():
            planner.update_endpoint(endpoint.id, endpoint)
        ops, refusals, _ = plan_pass(kernel, planner, database.put_on_foreign())
        return ops, refusals
    finally:
        cluster.close()
        database.close()
        kernel.close()

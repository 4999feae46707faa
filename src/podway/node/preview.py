"""What a pass would do now, read only: beside a running agent, without its lock."""

from __future__ import annotations

import os

import msgspec

from podway.delta.differ import Refusal
from podway.kernel.facade import Kernel
from podway.model.objects import ROUTE_PROTOCOL, Op
from podway.node import facts, holes
from podway.node.cluster import Cluster
from podway.node.database import Database
from podway.node.keys import Keys
from podway.node.reconciler import plan_pass
from podway.node.vanished import is_about, opened
from podway.plan.planner import Planner
from podway.plan.targets import standing


class Preview(msgspec.Struct, frozen=True):
    """``trouble``: why the store was not read, "" when it was. Without it nothing would be removed.

    ``unlearned``: peers' blocks that BGP has not brought yet. Of pods that have vanished nothing is told."""

    ops: tuple[Op, ...]
    refusals: tuple[Refusal, ...]
    trouble: str = ""
    unlearned: tuple[str, ...] = ()


def preview(node: str, state_dir: str, store_url: str) -> Preview:
    """Ordered operations and refusals. Raises Unavailable when the database can't be read."""
    kernel = Kernel()
    database = Database.open(state_dir, readonly=True)
    cluster = Cluster(node, store_url, database)
    try:
        cluster.refresh(remember=False)
        keys = Keys(state_dir)
        kernel.wireguard.keys = keys.private
        found = facts.look(kernel, cluster, state_dir)
        planner = Planner(msgspec.structs.replace(found, keys=dict(keys.public)))
        planner.update_holes(holes.load(state_dir))
        routes = kernel.rtnetlink.dump("route", protocol=ROUTE_PROTOCOL).values()
        planner.update_paths({**standing(routes, cluster.snapshot, planner.inputs.facts)})
        planner.update_learned({route.dst for route in kernel.learned()})
        if keys.public:
            planner.update_met(kernel.met())
        planner.update_snapshot(cluster.snapshot)
        _enter_pods(planner, database)
        ops, refusals, _ = plan_pass(kernel, planner, database.put_on_foreign())
        living, gone = opened(ops, planner.inputs)
        for fd in living.values():
            os.close(fd)
        ops = tuple(op for op in ops if not is_about(op, gone))
        if not cluster.snapshot.synced:
            return Preview(tuple(op for op in ops if op.want is not None), refusals, cluster.trouble)
        return Preview(ops, refusals, unlearned=tuple(planner.unlearned))
    finally:
        cluster.close()
        database.close()
        kernel.close()


def _enter_pods(planner: Planner, database: Database) -> None:
    """Those that the agent holds."""
    for endpoint, state in database.endpoints().values():
        if state != "deleting":
            planner.update_endpoint(endpoint.id, endpoint)
    for piece, state in database.pieces().values():
        if state != "deleting":
            planner.update_piece(piece.id, piece)

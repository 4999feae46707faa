"""What this machine is as a node: looked at in the kernel, and its address chosen as it was told to."""

from __future__ import annotations

from pathlib import Path

import msgspec

from podway.kernel.facade import Kernel
from podway.model.resources import DetectSpec, NodeFacts
from podway.node.cluster import Cluster
from podway.plan import detect

FILE = "detect.json"


class Local(msgspec.Struct, frozen=True, kw_only=True):
    """What the agent was started with; a Node document that says anything itself goes before it."""

    addresses: tuple[str, ...] = ()
    detect: DetectSpec = DetectSpec()


def save(state_dir: str, local: Local) -> None:
    """Keep the agent's options where an in-process call and ``podway plan`` find them."""
    path = Path(state_dir) / FILE
    if local == Local():
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    new = path.with_suffix(".new")
    new.write_bytes(msgspec.json.encode(local))
    new.replace(path)


def load(state_dir: str) -> Local:
    """What ``save`` kept."""
    try:
        return msgspec.json.decode((Path(state_dir) / FILE).read_bytes(), type=Local)
    except (OSError, msgspec.MsgspecError):
        return Local()


def look(kernel: Kernel, cluster: Cluster, state_dir: str) -> NodeFacts:
    """The node's facts now. One system call each for links, addresses, routes; no packet is sent."""
    local = load(state_dir)
    own = cluster.snapshot.nodes.get(cluster.node)
    spec = own.spec.detect if own is not None and own.spec.detect != DetectSpec() else local.detect
    declared = own.spec.addresses if own is not None and own.declared else local.addresses
    targets = (spec.can_reach,) if spec.can_reach else ()
    found = kernel.facts(cluster.node, cluster.adopted_bridges, targets)
    return detect.settle(found, spec, declared)

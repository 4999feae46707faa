"""The rows, by theme. ``ROWS``: name → function (rounds, directory) → rows of the report."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

from bench.measure import Row

Measure = Callable[[int, Path], list[Row]]

# name → module of this package and its function; loaded when asked for
_PLACES = {
    "routes": "routes:programmed",
    "throughput": "traffic:throughput",
    "latency": "traffic:latency",
    "attach-throughput": "attach:throughput",
    "attach-latency": "attach:latency",
    "first-packet": "first:answered",
    "external": "external:held",
    "cni": "cni:one",
    "hundred": "cni:hundred",
    "chains": "chains:one",
    "chains-20": "chains:twenty",
    "agentless": "cni:agentless",
    "sandbox": "sandbox:run",
    "sandbox-chains": "sandbox:chains",
    "agent": "agent:idle",
    "ready": "agent:ready",
    "fleet": "fleet:idle_etcd",
    "repair": "repair:repaired",
    "peers": "peers:scaling",
    "device": "peers:back",
    "bgp-20": "converge:small",
    "bgp-50": "converge:medium",
    "bgp-100": "converge:large",
    "bgp-200": "converge:largest",
    "bgp-200-mesh": "converge:largest_mesh",
    "flannel-throughput": "between:throughput",
    "flannel-latency": "between:latency",
    "flannel-repair": "mended:mended",
    "flannel-start": "start:together",
    "flannel-leftovers": "start:leftovers",
    "flannel-join-10": "join:small",
    "flannel-join-50": "join:large",
}
NAMES = tuple(_PLACES)
AGAINST_PLUGINS = {"cni", "hundred", "agentless", "chains", "chains-20"}  # want the reference plugins built


def load(name: str) -> Measure:
    """The measure called ``name``. Raises KeyError."""
    module, function = _PLACES[name].split(":")
    found: Measure = getattr(importlib.import_module(f"bench.rows.{module}"), function)
    return found

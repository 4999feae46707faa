"""RunPodSandbox through a real containerd: Podway, host network, and the reference bridge.

The machine and the runtime are those of tests/runtime.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import time
from collections.abc import Callable
from pathlib import Path

from containerd import runtime
from cri import Cri
from networks import REFERENCE, Podway, install_reference

from bench.measure import Row, Sample, in_turn, median_row
from bench.reference import debian_version

REFERENCE_NAME = f"{debian_version()} bridge + masquerade, one family"
_names = (f"pod{number}" for number in itertools.count())


def run(rounds: int, directory: Path) -> list[Row]:
    """RunPodSandbox, and Stop with Remove; both daemons run throughout."""
    del directory  # each machine has its own
    with contextlib.ExitStack() as stack:
        ours, reference = (stack.enter_context(runtime()) for _ in range(2))
        install_reference(reference, _one_family())
        node = Podway(ours)
        node.install()
        stack.callback(node.stop)
        sides = {
            "ours": _pod(Cri(ours)),
            "host network": _pod(Cri(ours), host_network=True),
            REFERENCE_NAME: _pod(Cri(reference)),
        }
        taken = in_turn(sides, rounds)
    mine = taken.pop("ours")
    goals = {"host network": "sandbox"}
    rows = [
        median_row(f"RunPodSandbox / {name}", "ms", mine["run"], theirs["run"], goals.get(name, ""))
        for name, theirs in taken.items()
    ]
    for name, theirs in taken.items():
        rows.append(median_row(f"Stop, Remove / {name}", "ms", mine["end"], theirs["end"]))
    return rows


def _one_family() -> dict[str, object]:
    """The reference with IPv4 alone and no ports: bridge with ipMasq."""
    conflist = copy.deepcopy(REFERENCE)
    plugins = conflist["plugins"]
    assert isinstance(plugins, list)
    ipam = plugins[0]["ipam"]
    ipam["ranges"], ipam["routes"] = ipam["ranges"][:1], ipam["routes"][:1]
    return {**conflist, "plugins": plugins[:1]}


def _pod(cri: Cri, host_network: bool = False) -> Callable[[], Sample]:
    def sample() -> Sample:
        start = time.perf_counter()
        pod = cri.run_pod(next(_names), host_network=host_network)
        up = time.perf_counter()
        cri.stop_pod(pod)
        cri.remove_pod(pod)
        return {"run": (up - start) * 1e3, "end": (time.perf_counter() - up) * 1e3}

    return sample

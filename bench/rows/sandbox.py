"""RunPodSandbox through a real containerd: Podway, host network, and the reference plugins.

The machine and the runtime are those of tests/runtime.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import json
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from containerd import Containerd, runtime
from cri import Cri
from networks import REFERENCE, DropIn, Podway, install_reference

from bench.measure import Row, Sample, in_turn, median_row
from bench.reference import debian_version
from bench.rows.chains import conflist, usual_chains

REFERENCE_NAME = f"{debian_version()} bridge + masquerade, one family"
PORTS = ((8000, 80, "tcp"), (9000, 53, "udp"))
RATES = {"kubernetes.io/ingress-bandwidth": "1G", "kubernetes.io/egress-bandwidth": "1G"}
HOST = "host network"
NOTHING = "as many plugins that do nothing"
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
            HOST: _pod(Cri(ours), host_network=True),
            REFERENCE_NAME: _pod(Cri(reference)),
        }
        taken = in_turn(sides, rounds)
    mine = taken.pop("ours")
    goals = {HOST: "sandbox"}
    rows = [
        median_row(f"RunPodSandbox / {name}", "ms", mine["run"], theirs["run"], goals.get(name, ""))
        for name, theirs in taken.items()
    ]
    for name, theirs in taken.items():
        rows.append(median_row(f"Stop, Remove / {name}", "ms", mine["end"], theirs["end"]))
    return rows


def chains(rounds: int, directory: Path) -> list[Row]:
    """RunPodSandbox, StopPodSandbox and RemovePodSandbox over the reference's names: the bridge alone, and
    the longest of the usual chains with ports and rates."""
    rows = []
    usual = list(usual_chains().items())
    for title, after in (usual[0], usual[-1]):
        taken = _over(title, after, rounds, directory)
        mine = taken.pop("ours")
        for verb in ("run", "stop", "remove"):
            for name, theirs in taken.items():
                goal = "sandbox chain" if after and (verb, name) == ("run", HOST) else ""
                head = f"{verb.capitalize()}PodSandbox, drop-in {title} / {name}"
                rows.append(median_row(head, "ms", mine[verb], theirs[verb], goal))
    return rows


def _over(
    title: str, after: list[dict[str, Any]], rounds: int, directory: Path
) -> dict[str, dict[str, list[float]]]:
    """A containerd each over our executables, the reference's and such that do nothing, and the first one's
    host network."""
    with contextlib.ExitStack() as stack:
        ours, reference, nothing = (stack.enter_context(runtime()) for _ in range(3))
        data = directory / title.replace(" ", "-")
        _install_nothing(nothing, conflist(after, data / "nothing", ""), directory)
        install_reference(reference, conflist(after, data / "theirs", ""))
        node = DropIn(ours, conflist(after, data / "ours", ""))
        node.install()
        stack.callback(node.stop)
        asked = {"ports": PORTS, "annotations": RATES} if after else {}
        sides = {
            "ours": _pod(Cri(ours), **asked),
            HOST: _pod(Cri(ours), host_network=True),
            debian_version(): _pod(Cri(reference), **asked),
            NOTHING: _pod(Cri(nothing), **asked),
        }
        return in_turn(sides, rounds)


def _install_nothing(runtime: Containerd, conflist: dict[str, Any], directory: Path) -> None:
    """Plugins of the conflist's names, and loopback, that answer and do nothing."""
    program = directory / "nothing"
    source = Path(__file__).with_name("nothing.c")
    subprocess.run(["musl-gcc", "-static", "-Os", "-o", program, source], check=True)
    for name in ("loopback", *(plugin["type"] for plugin in conflist["plugins"])):
        shutil.copy(program, runtime.bin_dir / name)
    (runtime.conf_dir / "10-nothing.conflist").write_text(json.dumps(conflist))
    runtime.wait_network()


def _one_family() -> dict[str, object]:
    """The reference with IPv4 alone and no ports: bridge with ipMasq."""
    conflist = copy.deepcopy(REFERENCE)
    plugins = conflist["plugins"]
    assert isinstance(plugins, list)
    ipam = plugins[0]["ipam"]
    ipam["ranges"], ipam["routes"] = ipam["ranges"][:1], ipam["routes"][:1]
    return {**conflist, "plugins": plugins[:1]}


def _pod(cri: Cri, **asked: Any) -> Callable[[], Sample]:
    """One pod, with what else ``Cri.run_pod`` is asked for: ms until it runs, has stopped, is forgotten."""

    def sample() -> Sample:
        start = time.perf_counter()
        pod = cri.run_pod(next(_names), **asked)
        up = time.perf_counter()
        cri.stop_pod(pod)
        down = time.perf_counter()
        cri.remove_pod(pod)
        gone = time.perf_counter()
        took = {"run": up - start, "stop": down - up, "remove": gone - down, "end": gone - up}
        return {name: seconds * 1e3 for name, seconds in took.items()}

    return sample

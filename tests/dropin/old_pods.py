"""Pods as the reference plugins left them before the switch, and what of them is seen on the node."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from bench.built import CACHE, built
from bench.chain import Attachment, Chain
from dropin_lab import Lab

from bench import reference
from podway.plan.dropin.foreign import Attached, chains, guards

PORTS = {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}
#: (executables, backend of masquerade and ports)
OLD = [
    ("Debian", "iptables"),
    ("Debian", "iptables-legacy"),
    (reference.RELEASE, "iptables"),
    (reference.RELEASE, "nftables"),
]
LIMITS = {"ingressRate": 8000000, "ingressBurst": 8000000, "egressRate": 8000000, "egressBurst": 8000000}
TUNED = "02:11:22:33:44:55"


def chain(lab: Lab, which: str, backend: str, monkeypatch: pytest.MonkeyPatch) -> Chain:
    """The reference plugins' chain of a release; after this the machine's iptables is ``backend``'s."""
    if backend == "iptables-legacy":  # by the name that the plugins call it by, as a distribution may have it
        (lab.directory / "legacy").mkdir()
        for name in ("iptables", "ip6tables"):
            (lab.directory / "legacy" / name).symlink_to(str(shutil.which(f"{name}-legacy")))
        monkeypatch.setenv("PATH", f"{lab.directory}/legacy:{os.environ['PATH']}")
    if which == reference.RELEASE:
        built(reference.NAME, reference.MODULE, reference.PROOF)
    directory = CACHE / reference.NAME if which == reference.RELEASE else reference.DEBIAN
    conflist = reference.Reference(which, directory, backend).conflist("ports", lab.data)
    conflist["plugins"][0] |= {"ipMasq": True, "macspoofchk": True}
    tuning = {
        "type": "tuning",
        "mac": TUNED,
        "mtu": 1400,
        "promisc": True,
        "dataDir": str(lab.directory / "t"),
    }
    conflist["plugins"] += [{"type": "bandwidth", "capabilities": {"bandwidth": True}}, tuning]
    return Chain(conflist, str(directory))


def ours(old: Chain, plugin: int = 0) -> dict[str, Any]:
    """A plugin's configuration, for the plugin that has its name now; the first is bridge."""
    told = {"runtimeConfig": {**PORTS, "bandwidth": LIMITS}}
    return {**old.conflist["plugins"][plugin], "name": old.conflist["name"], "cniVersion": "1.1.0", **told}


def attach(old: Chain, pod: str, port: int = 8080) -> dict[str, Any]:
    """By the reference plugins."""
    ports = {"portMappings": [{**PORTS["portMappings"][0], "hostPort": port}]}
    return old.add(Attachment(pod, f"/run/netns/{pod}", {**ports, "bandwidth": LIMITS}))


def traces(address: str, pod: str) -> list[str]:
    """Lines of nftables and iptables-legacy that are about a pod."""
    rules = _printed("nft", "-s", "list", "ruleset")
    for table in ("nat", "filter"):
        if table in Path("/proc/thread-self/net/ip_tables_names").read_text():
            rules += _printed("iptables-legacy", "-w", "-t", table, "-S")
    own, at = removals_names(pod), (f"{address} ", f"{address}/")
    return [line for line in rules.splitlines() if any(one in line for one in (*at, *own))]


def _printed(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def removals_names(pod: str) -> tuple[str, ...]:
    """What the reference plugins call what is a container's."""
    of = Attached(network="bench-ports", container=pod, ifname="eth0")
    return (*chains(of), f'"{pod}"', f"id: {pod}", *guards(of))


def bare(result: dict[str, Any]) -> str:
    """The pod's address."""
    return str(result["ips"][0]["address"]).partition("/")[0]

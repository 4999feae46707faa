"""Podway first in a chain of real plugins, beside a real agent: each keeps what it made."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from bench.chain import Attachment, Chain

from bench import podway
from podway.kernel import namespaces

pytestmark = pytest.mark.kernel

PLUGINS = Path("/usr/lib/cni")
RATE = 8_000_000
MAC = "02:00:00:00:00:07"
PORTS = {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}
AFTER = [
    {
        "type": "tuning",
        "mtu": 1400,
        "promisc": True,
        "sysctl": {"net.ipv6.conf.eth0.accept_ra": "2", "net.ipv4.conf.eth0.arp_filter": "1"},
    },
    {
        "type": "bandwidth",
        "ingressRate": RATE,
        "ingressBurst": RATE,
        "egressRate": RATE,
        "egressBurst": RATE,
    },
    {"type": "firewall"},
]


class Here:
    """The calling thread's namespace, as ``bench.podway`` wants a host."""

    name = "a"

    def call(self, *arguments: str) -> str:
        return _run(*arguments)

    def spawn(self, *arguments: str, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        return subprocess.Popen(arguments, env=env, stderr=subprocess.DEVNULL)

    def entered(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


def _node(directory: Path) -> podway.Node:
    """This namespace as a node of the network "pods"."""
    _run("ip", "link", "set", "lo", "up")
    node = podway.Node(Here(), directory, f"sqlite:{directory}/store.db")  # type: ignore[arg-type]
    node.apply(podway.network("pods", "10.98.0.0/16"))
    return node


@pytest.fixture
def chain(tmp_path: Path, in_namespace: int) -> Iterator[Chain]:
    """A node with an agent, and the chain of its network "pods": Podway, tuning, bandwidth, firewall."""
    node = _node(tmp_path)
    with node.agent():
        made = node.chain("pods")
        made.conflist["plugins"] += json.loads(json.dumps(AFTER))
        made.conflist["plugins"][1]["dataDir"] = str(tmp_path / "tuning")
        for plugin in AFTER:
            shutil.copy(PLUGINS / str(plugin["type"]), made.directory)
        yield made


def _attachment(namespace: int, **capabilities: Any) -> Attachment:
    return Attachment("c1", f"/proc/{os.getpid()}/fd/{namespace}", capabilities)


def _check(chain: Chain, attachment: Attachment, result: dict[str, Any]) -> None:
    """CHECK by the first plugin, with the final result."""
    chain._call("CHECK", chain.conflist["plugins"][0], attachment, result)


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def _shapers() -> list[str]:
    lines = _run("tc", "qdisc").splitlines()
    return sorted(line.split()[1] for line in lines if line.split()[1] in ("tbf", "ingress"))


def test_what_later_plugins_make_stays_and_check_tolerates_it(chain: Chain, pod_namespace: int) -> None:
    """A queue on a link that Podway doesn't limit is not repaired away, a sysctl and an MTU in the pod are
    no fault; what Podway made is."""
    attachment = _attachment(pod_namespace, **PORTS)
    result = chain.add(attachment)
    assert [one["name"] for one in result["interfaces"]][2] == "eth0"
    # what brings the agent to look at everything on links
    link = result["interfaces"][1]["name"]
    _run("ip", "link", "set", link, "down")
    _until(lambda: "state UP" in _run("ip", "link", "show", "dev", link))
    assert _shapers() == ["ingress", "tbf", "tbf"]
    _check(chain, attachment, result)
    with namespaces.entered(pod_namespace):
        _run("ip", "route", "del", "default")
    with pytest.raises(RuntimeError, match=r"route .* is missing in the pod"):
        _check(chain, attachment, result)
    chain.delete(attachment, result)
    _until(lambda: _shapers() == [])  # the pod's link goes off the answer's path


def test_check_waits_for_a_repair(tmp_path: Path, in_namespace: int, pod_namespace: int) -> None:
    """An agent that finds events and a CHECK at once serves the CHECK first, which must not complain of what
    is about to come back."""
    node = _node(tmp_path)
    with node.agent() as (agent, _), ThreadPoolExecutor(1) as pool:
        chain, attachment = node.chain("pods"), _attachment(pod_namespace)
        result = chain.add(attachment)
        for damage in ("nomaster", "down"):
            os.kill(agent, signal.SIGSTOP)
            try:
                _run("ip", "link", "set", result["interfaces"][1]["name"], damage)
                check = pool.submit(_check, chain, attachment, result)
                time.sleep(0.2)  # by then it waits for the agent
            finally:
                os.kill(agent, signal.SIGCONT)
            check.result()


def test_check_expects_the_mac_that_the_chain_left(chain: Chain, pod_namespace: int) -> None:
    """tuning may give the interface another: the final result has it."""
    chain.conflist["plugins"][1]["mac"] = MAC
    attachment = _attachment(pod_namespace)
    result = chain.add(attachment)
    assert result["interfaces"][2]["mac"] == MAC
    _check(chain, attachment, result)
    with namespaces.entered(pod_namespace):
        _run("ip", "link", "set", "eth0", "address", "02:00:00:00:00:08")
    with pytest.raises(RuntimeError, match="link eth0 differs in the pod"):
        _check(chain, attachment, result)
    chain.delete(attachment, result)

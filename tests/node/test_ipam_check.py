"""``podway ipam check`` names every leak and duplicate, and mends them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from podway.kernel import namespaces
from podway.model.lending import Borrow, BorrowSpec
from podway.model.resources import Endpoint, Node, NodeSpec, Snapshot
from podway.node.engine import open_engine
from podway.node.ipam_check import Facts, compare
from podway.node.requests import AttachRequest
from podway.store import Record, open_store


def _endpoint(name: str, address: str) -> Endpoint:
    return Endpoint(container=name, ifname="eth0", network="pods", addresses=(f"{address}/24",))


def test_what_is_named() -> None:
    endpoints = [_endpoint("one", "10.0.0.2"), _endpoint("two", "10.0.0.2"), _endpoint("gone", "10.0.0.4")]
    facts = Facts(
        node="a",
        snapshot=Snapshot(synced=True),
        endpoints={e.id: e for e in endpoints},
        links={"one/eth0": "pw1", "two/eth0": "pw2", "stray/eth0": "pw3"},
        living={"one/eth0": frozenset({"10.0.0.2"}), "two/eth0": frozenset()},
    )
    words = [finding.what for finding in compare(facts)]
    assert any("duplicate: 10.0.0.2 is held by one/eth0 and two/eth0" in w for w in words)
    assert any("leak: 10.0.0.4 of gone/eth0" in w for w in words)
    assert any("lost: 10.0.0.2 is not on eth0 of two/eth0" in w for w in words)
    assert any("leak: link pw3 of stray/eth0" in w for w in words)
    assert any("in no block of node a" in w for w in words)


def test_what_is_named_of_borrowed_addresses() -> None:
    borrows = {
        address: Borrow(address=address, spec=BorrowSpec(network="pods", node=node))
        for address, node in (("10.0.0.2", "a"), ("10.0.0.3", "b"), ("10.0.0.4", "gone"))
    }
    endpoints = [_endpoint("mine", "10.0.0.2"), _endpoint("both", "10.0.0.3")]
    nodes = {name: Node(name=name, spec=NodeSpec()) for name in "ab"}
    facts = Facts(
        node="a",
        snapshot=Snapshot(synced=True, nodes=nodes, borrows=borrows),
        endpoints={e.id: e for e in endpoints},
        links={"mine/eth0": "pw1", "both/eth0": "pw2"},
        living={},
    )
    assert [finding.what for finding in compare(facts)] == [
        "foreign: 10.0.0.3 of both/eth0 is in no block of node a",
        "duplicate: 10.0.0.3 is held by both/eth0, and borrowed by node b; delete one of the two pods",
        "leak: 10.0.0.4 is borrowed by node gone, which is not registered",
    ]


@pytest.mark.kernel
def test_a_vanished_pod_is_found_and_freed(tmp_path: Path, in_namespace: int) -> None:
    url = f"sqlite:{tmp_path}/store.db"
    store = open_store(url, create=True)
    store.create(Record(kind="Network", name="pods", spec=b'{"pools": [{"cidr": "10.244.0.0/16"}]}'))
    store.close()
    pod = namespaces.create()
    options = ["--node", "a", "--store", url, "--state-dir", str(tmp_path / "state")]

    def ipam(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "podway", "ipam", *words, *options]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    with open_engine("a", str(tmp_path / "state"), url) as engine:
        asked = AttachRequest(
            container="c", ifname="eth0", network="pods", namespace=f"/proc/{os.getpid()}/fd/{pod}"
        )
        address = engine.add(asked, pod).addresses[0].partition("/")[0]
    shown = ipam("show").stdout
    assert f"{address}  c/eth0" in shown and "pool 10.244.0.0/16" in shown
    assert ipam("check").returncode == 0
    refused = ipam("release", address)
    assert refused.returncode == 1 and "whose pod lives" in refused.stderr
    os.close(pod)
    subprocess.run(["ip", "link", "del", engine.attachments.endpoints["c/eth0"].host_link], check=False)
    found = ipam("check")
    assert found.returncode == 1 and f"leak: {address} of c/eth0" in found.stdout
    mended = ipam("check", "--fix")
    assert mended.returncode == 0 and "released c/eth0" in mended.stdout, mended.stdout + mended.stderr
    assert address not in ipam("show").stdout


@pytest.mark.kernel
def test_beside_a_running_agent(tmp_path: Path, in_namespace: int) -> None:
    """The agent does it, being the one writer: a vanished pod's address, one by force, a link that no
    database knows."""
    url, state = f"sqlite:{tmp_path}/store.db", str(tmp_path / "state")
    store = open_store(url, create=True)
    store.create(Record(kind="Network", name="pods", spec=b'{"pools": [{"cidr": "10.244.0.0/16"}]}'))
    store.close()
    own = ["--node", "a", "--store", url, "--state-dir", state, "--socket", str(tmp_path / "cni.sock")]
    podway = [sys.executable, "-m", "podway"]

    def ipam(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*podway, "ipam", *words, *own], capture_output=True, text=True, check=False)

    gone, lives = namespaces.create(), namespaces.create()
    with open_engine("a", state, url) as engine:
        asked = [
            AttachRequest(
                container=name, ifname="eth0", network="pods", namespace=f"/proc/{os.getpid()}/fd/{pod}"
            )
            for name, pod in (("gone", gone), ("lives", lives))
        ]
        endpoints = [engine.add(one, pod) for one, pod in zip(asked, (gone, lives), strict=True)]
    addresses = [endpoint.addresses[0].partition("/")[0] for endpoint in endpoints]
    agent = subprocess.Popen([*podway, "agent", *own, "--listen", ""], stderr=subprocess.DEVNULL)
    try:
        subprocess.run([*podway, "status", "--wait", *own], check=True, capture_output=True)
        os.close(gone)
        subprocess.run(["ip", "link", "del", endpoints[0].host_link], check=False)
        mended = ipam("check", "--fix")
        assert mended.returncode == 0 and "released gone/eth0" in mended.stdout, mended.stdout + mended.stderr
        assert "whose pod lives" in ipam("release", addresses[1]).stderr
        assert ipam("release", addresses[1], "--force").returncode == 0
        end = time.monotonic() + 20
        while any(address in ipam("show").stdout.split() for address in addresses):
            assert time.monotonic() < end  # its link goes a moment after the answer
    finally:
        agent.kill()
        agent.wait()
        os.close(lives)

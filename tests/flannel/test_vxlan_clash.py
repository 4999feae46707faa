"""A foreign VXLAN device in the way of one network: named with its fix, and all other networks work."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from podway.kernel import namespaces
from podway.node.engine import NodeEngine, open_engine
from podway.node.requests import AttachRequest
from podway.store import Record, open_store

pytestmark = pytest.mark.kernel


def _run(command: str) -> str:
    return subprocess.run(command.split(), check=True, capture_output=True, text=True).stdout


def _network(number: int, vni: int, port: int) -> Record:
    pools = [{"cidr": f"10.{number}.0.0/16"}]
    spec = {"transport": "vxlan", "pools": pools, "vxlan": {"vni": vni, "port": port}}
    return Record(kind="Network", name=f"net{number}", spec=json.dumps(spec).encode())


def _store(directory: Path, *networks: Record) -> str:
    url = f"sqlite:{directory}/store.db"
    store = open_store(url, create=True)
    for network in networks:
        store.create(network)
        number = network.name[-1]
        block = {"network": network.name, "node": "b", "attach": "bridge"}
        store.create(Record(kind="Block", name=f"10.{number}.7.0/24", spec=json.dumps(block).encode()))
    store.create(Record(kind="Node", name="b", spec=b'{"addresses": ["192.0.2.2/24"]}'))
    store.close()
    _run("ip link add up0 type veth peer name up1")
    _run("ip addr add 192.0.2.1/24 dev up0")
    _run("ip link set up1 up")
    _run("ip link set up0 up")
    return url


def _attach(engine: NodeEngine, network: str) -> None:
    pod = namespaces.create()
    try:
        request = AttachRequest(container=network, ifname="eth0", network=network, namespace="/nowhere")
        engine.add(request, pod)
    finally:
        os.close(pod)


@pytest.mark.parametrize(
    ("foreign", "words"),
    [
        ("id 1 dstport 8472 local 192.0.2.1", ("foreign0", "VNI 1", "8472", "ip link del foreign0")),
        # another VNI on a socket that can't be shared: the kernel only says that the address is in use
        ("external dstport 8472", ("8472 is taken", "ss -ulnp")),
    ],
)
def test_a_foreign_device_isolates_one_network(
    in_namespace: int, tmp_path: Path, foreign: str, words: tuple[str, ...]
) -> None:
    """net1 is refused with the device's name and what to do; net2 and net3 have device, routes and pods; once
    the device is gone net1 comes too. The foreign device is never touched."""
    url = _store(tmp_path, _network(1, 1, 8472), _network(2, 2, 4789), _network(3, 3, 4789))
    _run(f"ip link add foreign0 type vxlan {foreign}")
    _run("ip link set foreign0 up")
    before = _run("ip -d link show foreign0")
    with open_engine("a", str(tmp_path / "state"), url) as engine:
        engine.synchronize()
        said = "\n".join(engine.reconciler.problems.values())
        assert all(word in said for word in words), said
        routes = _run("ip route")
        assert "10.2.7.0/24" in routes and "10.3.7.0/24" in routes and "10.1.7.0/24" not in routes
        _attach(engine, "net2")
        _attach(engine, "net3")
        assert _run("ip -d link show foreign0") == before
        _run("ip link del foreign0")
        engine.synchronize()
        assert engine.reconciler.problems == {}
        assert "10.1.7.0/24" in _run("ip route")


def test_two_networks_of_one_vni_are_both_named(in_namespace: int, tmp_path: Path) -> None:
    """Neither is applied, the third works."""
    url = _store(tmp_path, _network(1, 1, 8472), _network(2, 1, 8472), _network(3, 3, 8472))
    with open_engine("a", str(tmp_path / "state"), url) as engine:
        engine.synchronize()
        (fragments,) = {who for key, who in engine.planner.conflicts.items() if key[0] == "link"}
        assert fragments == (("network", "net1"), ("network", "net2"))
        assert "10.3.7.0/24" in _run("ip route")

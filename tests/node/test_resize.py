"""Pods follow their network's MTU: routes first and links last when it shrinks, the reverse when it grows;
those that can't be entered or that asked for an MTU keep theirs, and are told of."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from podway.kernel import namespaces
from podway.node.engine import NodeEngine, open_engine
from podway.node.requests import AttachRequest
from podway.store import Record, Store, open_store

pytestmark = pytest.mark.kernel
POOLS = [{"cidr": "10.244.0.0/16"}, {"cidr": "fd00:10:244::/48"}]
PATIENCE = 20.0


class Scene:
    """An engine with pods; ``peer`` is another node that tells what the test wants."""

    def __init__(self, engine: NodeEngine, store: Store) -> None:
        self.engine = engine
        self.store = store

    def spec(self, **more: Any) -> None:
        record = self.store.get("Network", "pods")
        spec = json.dumps({"pools": POOLS, "transport": "host-gw"} | more).encode()
        self.store.update_spec(msgspec.structs.replace(record, spec=spec))

    def peer(self, sends: int, takes: int, target: int, mtu: str) -> None:
        sizes = {"generation": f"{mtu} host-gw", "target": target, "sends": sends}
        said = {"accepts": ["host-gw"], "sends": ["host-gw"], "mtu": takes, "sizes": sizes}
        status = json.dumps({"addresses": ["192.0.2.2/24"], "paths": {"pods": said}}).encode()
        node = self.store.get("Node", "peer")
        self.store.update_status(msgspec.structs.replace(node, status=status))

    def add(self, name: str, namespace: int, path: str, **more: Any) -> None:
        request = AttachRequest(container=name, ifname="eth0", network="pods", namespace=path, **more)
        self.engine.add(request, namespace)

    def until(self, namespace: int, link: int, routes: set[int]) -> None:
        """Until a pod's link and its routes (0: none of their own) have these MTUs."""
        deadline = time.monotonic() + PATIENCE
        while look(namespace) != (link, routes):
            assert time.monotonic() < deadline, look(namespace)
            self.engine.synchronize()
            time.sleep(0.02)


def look(namespace: int) -> tuple[int, set[int]]:
    """MTU of eth0 in a namespace, and of its routes."""
    with namespaces.entered(namespace):
        found = json.loads(subprocess.check_output(["ip", "-j", "link", "show", "eth0"]))[0]["mtu"]
        routes = [
            route
            for family in ("-4", "-6")
            for route in json.loads(
                subprocess.check_output(["ip", family, "-j", "route", "show", "dev", "eth0"])
            )
            if not route["dst"].startswith("fe80:")
        ]
    return found, {sum(m.get("mtu", 0) for m in route.get("metrics", ())) for route in routes}


@pytest.fixture
def scene(tmp_path: Path, in_namespace: int) -> Iterator[Scene]:
    """One node of two, with an uplink of 1500."""
    for words in (
        "link add up0 type veth peer name up1",
        "address add 192.0.2.1/24 dev up0",
        "link set up0 up",
    ):
        subprocess.run(["ip", *words.split()], check=True)
    url = f"sqlite:{tmp_path}/store.db"
    with contextlib.closing(open_store(url, create=True)) as store:
        spec = json.dumps({"pools": POOLS, "transport": "host-gw"}).encode()
        store.create(Record(kind="Network", name="pods", spec=spec))
        store.create(Record(kind="Node", name="peer"))
        with open_engine("a", str(tmp_path / "state"), url) as engine:
            yield Scene(engine, store)


def test_routes_first_links_last_and_back(scene: Scene, pod_namespace: int) -> None:
    """The links wait for the peer that sends larger packets, the routes for the one that takes smaller."""
    scene.peer(1500, 1500, 1500, "auto")
    scene.add("c1", pod_namespace, f"/proc/{os.getpid()}/fd/{pod_namespace}")
    assert look(pod_namespace) == (1500, {0})
    scene.spec(mtu=1400)
    scene.until(pod_namespace, 1500, {1400})
    scene.peer(1400, 1500, 1400, "1400")
    scene.until(pod_namespace, 1400, {0})
    scene.peer(1400, 1400, 1400, "1400")
    scene.spec(mtu=1450)
    scene.until(pod_namespace, 1450, {1400})
    scene.peer(1450, 1450, 1450, "1450")
    scene.until(pod_namespace, 1450, {0})
    scene.engine.check(
        AttachRequest(container="c1", ifname="eth0", network="pods", namespace="/"), pod_namespace, ()
    )


def test_a_pod_that_comes_meanwhile_is_like_the_others(scene: Scene, pod_namespace: int) -> None:
    """Attached between the phases, it has the larger link and the smaller routes, those of the kernel too."""
    scene.peer(1500, 1500, 1500, "auto")
    with contextlib.ExitStack() as stack:
        other = namespaces.create()
        stack.callback(os.close, other)
        scene.add("c1", pod_namespace, f"/proc/{os.getpid()}/fd/{pod_namespace}")
        scene.spec(mtu=1400)
        scene.until(pod_namespace, 1500, {1400})
        scene.add("c2", other, f"/proc/{os.getpid()}/fd/{other}")
        assert look(other) == (1500, {1400})


def test_who_keeps_an_mtu(scene: Scene, pod_namespace: int) -> None:
    """A pod that asked for one is left alone; one that can't be entered is named, and holds up nobody."""
    with contextlib.ExitStack() as stack:
        hidden = namespaces.create()
        stack.callback(os.close, hidden)
        scene.add("c1", pod_namespace, f"/proc/{os.getpid()}/fd/{pod_namespace}", mtu=1300)
        scene.add("c2", hidden, "/nowhere")
        scene.spec(mtu=1400)
        for _ in range(3):
            scene.engine.synchronize()
        assert look(pod_namespace) == (1300, {0}) and look(hidden) == (1500, {0})
        (told,) = scene.engine.resizer.left
        assert "c2" in told and "MTU stays 1500" in told
        assert scene.engine.resizer.pods() == {}

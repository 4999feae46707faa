"""SIGKILL at every named point of ADD and DEL: what the runtime does next leaves nothing behind.

The in-process command is killed (``PODWAY_FAULT``), then one of three things happens, as in life: the
runtime's DEL, its GC, or a start of the agent's engine. Afterwards no link, address or set element of
the pod is left, and the address is free or held by exactly one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from podway.kernel import namespaces
from podway.kernel.facade import Kernel
from podway.model.objects import Link
from podway.node.database import Database
from podway.node.faults import POINTS
from podway.store import Record, open_store

pytestmark = pytest.mark.kernel

NETWORK = {"pools": [{"cidr": "10.244.0.0/16"}, {"cidr": "fd00:10:244::/48"}]}
PORTS = [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]
ADD_POINTS = [point for point in POINTS if point.startswith("add.")]
DELETE_POINTS = [point for point in POINTS if point.startswith("delete.")]


class Runtime:
    """Calls the in-process plugin as a runtime would."""

    def __init__(self, directory: Path, pod: int) -> None:
        self.state = directory / "state"
        self.url = f"sqlite:{directory}/store.db"
        self.pod = pod
        store = open_store(self.url, create=True)
        store.create(Record(kind="Network", name="pods", spec=json.dumps(NETWORK).encode()))
        store.close()

    def call(self, command: str, container: str = "c1", fault: str = "", **conf: object) -> tuple[int, dict]:  # type: ignore[type-arg]
        """Exit code and the document on stdout."""
        document = {"cniVersion": "1.1.0", "name": "pods", "type": "podway-cni", "network": "pods"}
        environment = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container,
            "CNI_IFNAME": "eth0",
            "CNI_NETNS": f"/proc/{os.getpid()}/fd/{self.pod}" if command == "ADD" else "",
            "CNI_PATH": "/opt/cni/bin",
            "PATH": os.environ["PATH"],
        }
        if command in ("GC", "STATUS"):
            environment = {k: v for k, v in environment.items() if k in ("CNI_COMMAND", "CNI_PATH", "PATH")}
        if fault:
            environment["PODWAY_FAULT"] = fault
        options = ["--node", "a", "--state-dir", str(self.state), "--store", self.url]
        done = subprocess.run(
            [sys.executable, "-m", "podway.cni.inprocess", *options],
            input=json.dumps(document | conf).encode(),
            capture_output=True,
            env=environment,
            check=False,
        )
        return done.returncode, json.loads(done.stdout) if done.stdout else {}

    def leftovers(self) -> list[str]:
        """What is left of any pod in kernel and database."""
        kernel = Kernel()
        try:
            actual = kernel.observe()
        finally:
            kernel.close()
        found = [
            o.name
            for o in actual.values()
            if isinstance(o, Link) and (o.alias or "").startswith("podway:pod:")
        ]
        pods = ("masquerade4", "ports4", "guarded", "macs", "sources4", "sources6", "targets6")
        found += [" ".join(key) for key in actual if key[0] == "nftelement" and key[2] in pods]
        with namespaces.entered(self.pod):
            shown = subprocess.run(["ip", "-br", "link"], capture_output=True, text=True, check=True).stdout
        found += ["eth0 in the pod"] if "eth0" in shown else []
        database = Database.open(str(self.state))
        found += list(database.endpoints())
        database.close()
        return found


@pytest.fixture
def runtime(tmp_path: Path, in_namespace: int, pod_namespace: int) -> Runtime:
    return Runtime(tmp_path, pod_namespace)


def _recover(runtime: Runtime, how: str) -> None:
    if how == "DEL":
        code, document = runtime.call("DEL")
    elif how == "GC":
        code, document = runtime.call("GC", **{"cni.dev/valid-attachments": []})
    else:
        code, document = runtime.call("STATUS")  # opens the engine, as an agent's start does
    assert code == 0, document


@pytest.mark.parametrize("how", ["DEL", "GC", "start"])
@pytest.mark.parametrize("point", ADD_POINTS)
def test_killed_in_add(runtime: Runtime, point: str, how: str) -> None:
    settings = {"runtimeConfig": {"portMappings": PORTS}}
    code, _ = runtime.call("ADD", fault=point, **settings)
    assert code == -signal.SIGKILL
    _recover(runtime, how)
    if point == "add.finished" and how == "start":
        # it stands durably; only the answer was lost: the runtime's DEL is still to come
        _recover(runtime, "DEL")
    assert runtime.leftovers() == []
    code, document = runtime.call("ADD", container="c2", **settings)
    assert code == 0, document


@pytest.mark.parametrize("how", ["DEL", "GC", "start"])
@pytest.mark.parametrize("point", DELETE_POINTS)
def test_killed_in_delete(runtime: Runtime, point: str, how: str) -> None:
    code, document = runtime.call("ADD", runtimeConfig={"portMappings": PORTS})
    assert code == 0, document
    code, _ = runtime.call("DEL", fault=point)
    assert code == -signal.SIGKILL
    if point == "delete.begin" and how == "start":
        _recover(runtime, "DEL")
    _recover(runtime, how)
    assert runtime.leftovers() == []


def test_a_killed_add_is_never_given_twice(runtime: Runtime) -> None:
    """The address of a half-made pod is not another's until the first is gone."""
    code, _ = runtime.call("ADD", fault="add.finished")
    assert code == -signal.SIGKILL
    other = namespaces.create()
    try:
        runtime.pod, first = other, runtime.pod
        code, document = runtime.call("ADD", container="c2")
        assert code == 0, document
        mine = {ip["address"].partition("/")[0] for ip in document["ips"]}
        with namespaces.entered(first):
            shown = subprocess.run(
                ["ip", "-br", "address"], capture_output=True, text=True, check=True
            ).stdout
        assert not any(f" {address}/" in shown for address in mine)
    finally:
        os.close(other)

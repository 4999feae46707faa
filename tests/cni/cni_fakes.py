"""An engine that records and obeys, calls to give it, and a server of it in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import threading
from collections.abc import Iterator
from typing import Any

from podway.cni import plugin
from podway.cni.protocol import Answer, Call
from podway.cni.server import Server, Tell
from podway.cni.steps import drive
from podway.kernel import namespaces
from podway.model.resources import Endpoint
from podway.node.requests import AttachRequest

CONTAINER = "c0ffee"
NETNS = "/run/netns/pod-1"


def handle(one: Call, engine: Any) -> Answer:
    """One call, carried out in this thread."""
    return drive(plugin.steps(one), engine)


class RecordingEngine:
    """Keeps what was asked; ``failure`` is raised instead, and ``endpoint`` overrides what ADD makes."""

    def __init__(self, failure: BaseException | None = None, **endpoint: Any) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.failure = failure
        self.endpoint = endpoint
        self.namespaces: list[str] = []

    def _ask(self, *what: Any) -> None:
        self.asked.append(what)
        if self.failure is not None:
            raise self.failure

    def add(self, request: AttachRequest, namespace_fd: int) -> Endpoint:
        self.namespaces.append(namespaces.identity(namespace_fd))
        self._ask("add", request)
        fields: dict[str, Any] = {
            "container": request.container,
            "ifname": request.ifname,
            "network": request.network,
            "addresses": ("10.244.1.7/24", "fd00:10:244:1::7/64"),
            "gateways": ("10.244.1.1", "fd00:10:244:1::1"),
            "mac": "0a:58:0a:f4:01:07",
            "host_link": "pw0123456789ab",
            "bridge": "pw-pods",
            "mtu": 1450,
            "namespace": request.namespace,
        }
        return Endpoint(**{**fields, **self.endpoint})

    def delete(self, container: str, ifname: str, namespace_fd: int = -1) -> None:
        self._ask("delete", container, ifname)

    def check(self, request: AttachRequest, namespace_fd: int, addresses: tuple[str, ...]) -> None:
        self._ask("check", request, addresses)

    def gc(self, network: str, configuration: str, valid: frozenset[tuple[str, str]]) -> None:
        self._ask("gc", network, valid)

    def status(self, network: str) -> None:
        self._ask("status", network)


def conf(**more: Any) -> dict[str, Any]:
    """A network configuration of the newest version."""
    return {"cniVersion": "1.1.0", "name": "pods", "type": "podway-cni", **more}


def environment(command: str, **more: str) -> dict[str, str]:
    """The CNI_* variables of a call about eth0 of CONTAINER; a variable set to "" stays out."""
    every = {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": CONTAINER,
        "CNI_IFNAME": "eth0",
        "CNI_NETNS": NETNS,
        "CNI_PATH": "/opt/cni/bin",
        **more,
    }
    return {name: value for name, value in every.items() if value}


def call(command: str, body: Any, *, pod_fd: int = -1, pod_errno: int = 0, **env: str) -> Call:
    """A Call with ``body`` (bytes as they are, or encoded as JSON) on stdin."""
    stdin = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Call(env=environment(command, **env), stdin=stdin, pod_fd=pod_fd, pod_errno=pod_errno)


def document(answer: Answer) -> dict[str, Any]:
    """The one JSON object of an answer."""
    found = json.loads(answer.stdout)
    assert isinstance(found, dict)
    return found


def error_of(answer: Answer) -> tuple[int, str]:
    """(code, msg) of an error document, after checking that it is a valid one."""
    found = document(answer)
    assert answer.exit_code != 0
    assert found.keys() <= {"cniVersion", "code", "msg", "details"}
    assert isinstance(found["cniVersion"], str) and isinstance(found["msg"], str)
    assert type(found["code"]) is int and found["code"] > 0
    return found["code"], found["msg"]


@contextlib.contextmanager
def serving(
    path: str, engine: RecordingEngine, delay: float = 0.0, patience: float = 30.0
) -> Iterator[Server]:
    """A Server of ``engine`` at ``path``, on an event loop of its own thread (in this thread's namespace)."""
    own = os.open(namespaces.OWN, os.O_RDONLY)
    ready = threading.Event()
    box: dict[str, Any] = {}

    async def submit(one: Call, tell: Tell) -> None:
        await asyncio.sleep(delay)
        tell(handle(one, engine))

    async def main() -> None:
        box["loop"], box["stop"] = asyncio.get_running_loop(), asyncio.Event()
        box["server"] = Server(path, submit, patience=patience)
        await box["server"].start()
        ready.set()
        await box["stop"].wait()
        await box["server"].close()

    def run() -> None:
        with namespaces.entered(own):
            asyncio.run(main())

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert ready.wait(10)
        yield box["server"]
    finally:
        if "loop" in box:
            box["loop"].call_soon_threadsafe(box["stop"].set)
        thread.join()
        os.close(own)


def open_descriptors() -> set[tuple[int, str]]:
    """Every open descriptor of this process, with what it is."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{name}")
            if not target.startswith("/proc/"):
                found.add((int(name), target))
    return found

"""A node with an uplink, a machine outside, pods; small servers and clients inside any namespace."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec

from podway.kernel import namespaces
from podway.model.resources import Endpoint
from podway.node.engine import NodeEngine, open_engine
from podway.node.requests import AttachRequest
from podway.store import Record, open_store

NODE4, NODE6 = "192.0.2.1", "2001:db8::1"
OUTSIDE4, OUTSIDE6 = "192.0.2.2", "2001:db8::2"
WAIT = 2.0


def run(*command: str) -> str:
    """stdout of a command that must succeed."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


class Scene:
    """``engine`` runs in the calling thread's namespace; ``outside`` is a descriptor beyond its uplink."""

    def __init__(self, engine: NodeEngine, outside: int, url: str) -> None:
        self.engine = engine
        self._url = url
        self.outside = outside
        self.node = os.open(namespaces.OWN, os.O_RDONLY | os.O_CLOEXEC)
        self._pods: list[int] = []

    def pod(self, name: str, **more: object) -> tuple[int, Endpoint]:
        """A new pod: its namespace and endpoint."""
        fd = namespaces.create()
        self._pods.append(fd)
        asked = {"container": name, "ifname": "eth0", "network": "pods", "namespace": "/nowhere"}
        return fd, self.engine.add(AttachRequest(**(asked | more)), fd)  # type: ignore[arg-type]

    def change(self, **spec: object) -> None:
        """Change the network and let the node follow."""
        store = open_store(self._url)
        record = store.get("Network", "pods")
        changed = json.dumps(json.loads(record.spec) | spec).encode()
        store.update_spec(msgspec.structs.replace(record, spec=changed))
        store.close()
        self.engine.synchronize()

    def declare(self, name: str, **spec: object) -> None:
        """Another network."""
        store = open_store(self._url)
        store.create(Record(kind="Network", name=name, spec=json.dumps(spec).encode()))
        store.close()
        self.engine.synchronize()

    def close(self) -> None:
        """Let go of the namespaces."""
        for fd in (*self._pods, self.node):
            os.close(fd)


@contextlib.contextmanager
def scene(directory: Path, **spec: object) -> Iterator[Scene]:
    """A node with a network of ``spec``, in the calling thread's (new) namespace."""
    outside = namespaces.create()
    run("ip", "link", "set", "lo", "up")
    path = f"/proc/{os.getpid()}/fd/{outside}"
    run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "up0", "netns", path)
    run("ip", "address", "add", f"{NODE4}/24", "dev", "up0")
    run("ip", "address", "add", f"{NODE6}/64", "dev", "up0", "nodad")
    run("ip", "link", "set", "up0", "up")
    with namespaces.entered(outside):
        run("ip", "link", "set", "lo", "up")
        run("ip", "address", "add", f"{OUTSIDE4}/24", "dev", "up0")
        run("ip", "address", "add", f"{OUTSIDE6}/64", "dev", "up0", "nodad")
        run("ip", "link", "set", "up0", "up")
        run("ip", "route", "add", "default", "via", NODE4)
        run("ip", "-6", "route", "add", "default", "via", NODE6)
    run("ip", "route", "add", "default", "via", OUTSIDE4)
    run("ip", "-6", "route", "add", "default", "via", OUTSIDE6)
    url = f"sqlite:{directory}/store.db"
    store = open_store(url, create=True)
    network = {"pools": [{"cidr": "10.244.0.0/16"}, {"cidr": "fd00:10:244::/48"}]} | spec
    store.create(Record(kind="Network", name="pods", spec=json.dumps(network).encode()))
    store.close()
    with open_engine("a", str(directory / "state"), url) as engine:
        made = Scene(engine, outside, url)
        try:
            yield made
        finally:
            made.close()
            os.close(outside)


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def sock(namespace: int, address: str, kind: int, protocol: int = 0) -> socket.socket:
    """A socket of ``address``'s family in a namespace."""
    with namespaces.entered(namespace):
        made = socket.socket(_family(address), kind, protocol)
    made.settimeout(WAIT)
    return made


@contextlib.contextmanager
def server(
    namespace: int, port: int, kind: int = socket.SOCK_STREAM, family: int = 4, protocol: int = 0
) -> Iterator[int]:
    """Answers each connection or datagram with the address it came from. Yields the port."""
    anywhere = "0.0.0.0" if family == 4 else "::"
    listening = sock(namespace, anywhere, kind, protocol)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == 6:
        listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    listening.settimeout(0.1)
    listening.bind((anywhere, port))
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            with contextlib.suppress(TimeoutError, OSError):
                if kind == socket.SOCK_STREAM:
                    connection, peer = listening.accept()
                    with connection:
                        connection.sendall(peer[0].encode())
                else:
                    _, peer = listening.recvfrom(2048)
                    listening.sendto(peer[0].encode(), peer)

    if kind == socket.SOCK_STREAM:
        listening.listen(16)
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield port
    finally:
        stop.set()
        thread.join()
        listening.close()


def ask(
    namespace: int, address: str, port: int, kind: int = socket.SOCK_STREAM, protocol: int = 0
) -> str | None:
    """The address that the server at ``address`` saw us come from; None when it isn't reached."""
    client = sock(namespace, address, kind, protocol)
    try:
        client.connect((address, port))
        if kind == socket.SOCK_DGRAM:
            client.send(b"?")
        return client.recv(100).decode() or None
    except OSError:
        return None
    finally:
        client.close()


def ping(namespace: int, address: str, wait: int = 5) -> bool:
    """Whether one echo request is answered within ``wait`` seconds."""
    with namespaces.entered(namespace):
        done = subprocess.run(["ping", "-c1", f"-W{wait}", address], capture_output=True)
    return done.returncode == 0

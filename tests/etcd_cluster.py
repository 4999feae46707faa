"""Real etcd servers for tests: one or several members on loopback, with or without TLS."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import time
import urllib.request
from pathlib import Path

from podway.kernel import namespaces

PATIENCE = 60.0


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class Member:
    """One etcd server, in ``namespace`` if one is given."""

    def __init__(
        self,
        directory: Path,
        name: str,
        client: str,
        peer: str,
        cluster: str,
        *more: str,
        namespace: int | None = None,
    ) -> None:
        self.name, self.client = name, client
        self._directory = directory
        self._namespace = namespace
        self._command = [
            "etcd",
            *("--name", name, "--data-dir", str(directory / name), "--logger", "zap"),
            *("--listen-client-urls", client, "--advertise-client-urls", client),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", cluster, "--heartbeat-interval", "100", "--election-timeout", "1000"),
            *more,
        ]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        where = contextlib.nullcontext() if self._namespace is None else namespaces.entered(self._namespace)
        with open(self._directory / f"{self.name}.log", "ab") as log, where:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log)

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


class Cluster:
    """Members with one store between them."""

    def __init__(self, members: list[Member], tls: ssl.SSLContext | None = None) -> None:
        self.members = members
        self.tls = tls

    @classmethod
    def on_loopback(cls, directory: Path, size: int = 1) -> Cluster:
        """On free ports of this machine."""
        directory.mkdir(exist_ok=True)
        ports = free_ports(2 * size)
        peers = {f"m{n}": f"http://127.0.0.1:{ports[size + n]}" for n in range(size)}
        cluster = ",".join(f"{name}={url}" for name, url in peers.items())
        clients = [f"http://127.0.0.1:{port}" for port in ports[:size]]
        return cls(
            [
                Member(directory, name, client, peer, cluster)
                for (name, peer), client in zip(peers.items(), clients, strict=True)
            ]
        )

    def start(self) -> None:
        for member in self.members:
            member.start()
        self.wait()

    def stop(self) -> None:
        for member in self.members:
            member.kill()

    def url(self, prefix: str, options: str = "") -> str:
        """As ``--store`` takes it."""
        return f"etcd:{','.join(one.client for one in self.members)}/{prefix}{options}"

    def wait(self) -> None:
        """Until all members serve."""
        deadline = time.monotonic() + PATIENCE
        for member in self.members:
            while True:
                try:
                    self.call(member, "/v3/kv/range", {"key": "YQ=="})
                    break
                except OSError as error:
                    if getattr(error, "code", 503) < 500:  # it asks for a user: it serves
                        break
                    assert time.monotonic() < deadline, error
                    assert member.process is None or member.process.poll() is None, f"{member.name} ended"
                    time.sleep(0.05)

    def call(self, member: Member, path: str, body: dict[str, object], token: str = "") -> dict[str, object]:
        """By another client than the one under test."""
        headers = {"Content-Type": "application/json"} | ({"Authorization": token} if token else {})
        request = urllib.request.Request(member.client + path, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=20, context=self.tls) as answer:
            found: dict[str, object] = json.load(answer)
            return found

    def put(self, key: str | bytes, value: bytes) -> None:
        name = key if isinstance(key, bytes) else key.encode()
        body: dict[str, object] = {"key": b64(name), "value": b64(value)}
        self.call(self.members[0], "/v3/kv/put", body)

    def values(self, prefix: str) -> list[bytes]:
        """Of all keys that begin so."""
        start = prefix.encode()
        end = start[:-1] + bytes([start[-1] + 1])
        body: dict[str, object] = {"key": b64(start), "range_end": b64(end)}
        kvs = self.call(self.members[0], "/v3/kv/range", body)["kvs"]
        assert isinstance(kvs, list)
        return [base64.b64decode(kv.get("value", "")) for kv in kvs]

    def compact(self) -> None:
        """Forget all changes up to now."""
        put: dict[str, object] = {"key": b64(b"elsewhere"), "value": ""}  # the newest change itself is kept
        header = self.call(self.members[0], "/v3/kv/put", put)["header"]
        assert isinstance(header, dict)
        self.call(self.members[0], "/v3/kv/compaction", {"revision": header["revision"], "physical": True})

    def leader(self) -> Member:
        """Once there is one."""
        deadline = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(OSError):
                for member in self.members:
                    if self._leads(member):
                        return member
            assert time.monotonic() < deadline, "no leader"
            time.sleep(0.1)

    def _leads(self, member: Member) -> bool:
        if member.process is None:
            return False
        status = self.call(member, "/v3/maintenance/status", {})
        header = status["header"]
        assert isinstance(header, dict)
        return status.get("leader") == header["member_id"]


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def resume(member: Member) -> None:
    """A stopped process goes on, if it is there."""
    if member.process is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(member.process.pid, signal.SIGCONT)

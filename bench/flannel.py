"""flanneld under measure: its configuration in etcd, its daemon on a node, a pod by the bridge plugin."""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import built, reference
from bench.chain import Attachment, Chain
from bench.host import Host
from bench.segment import ETCD, until
from podway.store.etcd_client import Client
from podway.store.etcd_url import parse

POOL = "10.96.0.0/16"
PREFIX = "/coreos.com/network"


def configure(etcd: Host, backend: str) -> None:
    """Flannel's configuration, and no lease."""
    key = base64.b64encode(f"{PREFIX}/config".encode()).decode()
    text = json.dumps({"Network": POOL, "Backend": {"Type": backend}}).encode()
    with etcd.entered():
        client = Client(parse(f"etcd:http://{ETCD}:2379/x"))
        client.call("/v3/kv/put", {"key": key, "value": base64.b64encode(text).decode()})
        client.close()


class Node:
    """One node: its namespace and its daemon once started."""

    def __init__(self, host: Host, directory: Path, *options: str) -> None:
        self.host = host
        self.file = directory / f"{host.name}.env"
        self._data = directory / f"{host.name}-ipam"
        self._options = options
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; ``wait`` says when it serves."""
        self.file.unlink(missing_ok=True)
        where = ["-etcd-endpoints", f"http://{ETCD}:2379", "-iface", "eth0", "-subnet-file", str(self.file)]
        self.process = self.host.spawn(str(built.flannel()), *where, *self._options)

    def wait(self) -> None:
        """Until it has written its subnet, by which its CNI plugin serves."""
        until(self._serves, f"flanneld on {self.host.name} has no subnet")

    def _serves(self) -> bool:
        if self.process is not None and self.process.poll() is not None:
            raise RuntimeError(f"flanneld on {self.host.name} ended")
        return self.file.exists()

    @property
    def exited(self) -> bool:
        """Whether it gave up."""
        return self.process is not None and self.process.poll() is not None

    @contextlib.contextmanager
    def daemon(self) -> Iterator[float]:
        """The running daemon for the body: seconds from its start until it serves."""
        began = time.monotonic()
        try:
            self.start()
            self.wait()
            yield time.monotonic() - began
        finally:
            self.end()

    def end(self) -> None:
        """Kill it; what it made stays, as it does on a node."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def attach(self, pod: Host) -> str:
        """The address of ``pod``, by what Flannel's CNI plugin has the bridge plugin do."""
        values = dict(line.split("=", 1) for line in self.file.read_text().split())
        network, _, _ = values["FLANNEL_SUBNET"].partition("/")
        ipam = {
            "type": "host-local",
            "dataDir": str(self._data),
            "ranges": [[{"subnet": f"{network.rsplit('.', 1)[0]}.0/24"}]],
            "routes": [{"dst": POOL}, {"dst": "0.0.0.0/0"}],
        }
        bridge: dict[str, Any] = {
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": True,
            "hairpinMode": True,
            "mtu": int(values["FLANNEL_MTU"]),
            "ipMasq": False,
            "ipam": ipam,
        }
        conflist = {"cniVersion": "1.0.0", "name": "cbr0", "plugins": [bridge]}
        with self.host.entered():
            result = Chain(conflist, str(reference.DEBIAN)).add(Attachment(pod.name, pod.path))
        address: str = result["ips"][0]["address"]
        return address.partition("/")[0]

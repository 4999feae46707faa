"""An etcd of the lab's own, on one of its hosts: the store of nodes that share nothing but a network."""

from __future__ import annotations

import ipaddress
import shutil
import socket
import subprocess
import time
from pathlib import Path

from podway.lab.topology import Topology
from podway.model.errors import Unavailable

PORT = 2379
READY = 60.0  # seconds
PAUSE = 0.05
LOG_LINES = 3


def require(topology: Topology) -> None:
    """Raise Unavailable, before anything is made, when a lab wants an etcd and there is none."""
    if topology.etcd and shutil.which("etcd") is None:
        raise Unavailable("the command etcd is not installed", "store: etcd", "apt install etcd-server")


def address(topology: Topology) -> str:
    """Where nodes reach it, as in a URL."""
    (first, *_) = topology.machine(topology.etcd).ports[0].addresses
    bare = ipaddress.ip_interface(first).ip
    return f"{f'[{bare}]' if bare.version == 6 else bare}:{PORT}"


def url(topology: Topology) -> str:
    """For ``--store``."""
    return f"etcd:http://{address(topology)}/lab"


def start(topology: Topology, enter: list[str], directory: Path) -> None:
    """Start it, by the command line beginning ``enter``, and wait until it takes connections.

    Called on a thread in the host's network namespace. Raises Unavailable with its last words."""
    client, peers = f"http://{address(topology)}", "http://127.0.0.1:2380"
    command = [
        *("etcd", "--name", "lab", "--data-dir", str(directory / "etcd"), "--logger", "zap"),
        *("--listen-client-urls", client, "--advertise-client-urls", client),
        *("--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers),
        *("--initial-cluster", f"lab={peers}"),
    ]
    log_path = directory / "etcd.log"
    with open(log_path, "ab") as log:
        running = subprocess.Popen([*enter, *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    host, _, port = address(topology).rpartition(":")
    deadline = time.monotonic() + READY
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=1).close()
            return
        except OSError:
            if running.poll() is not None or time.monotonic() > deadline:
                lines = log_path.read_text(errors="replace").splitlines()[-LOG_LINES:]
                raise Unavailable(f"etcd does not start: {' | '.join(lines)}", topology.etcd) from None
            time.sleep(PAUSE)

"""Many nodes on one segment, with an etcd beside them: what a cluster stands on before anything runs."""

from __future__ import annotations

import contextlib
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from bench.host import Host, host

ETCD = "192.0.2.250"


class Segment:
    """A bridge in a namespace of its own; nodes plugged into it are 192.0.2.NUMBER."""

    def __init__(self, name: str, place: Host) -> None:
        self.name = name
        self._place = place
        place.run("ip link add lan type bridge")
        place.run("ip link set lan up")

    @contextlib.contextmanager
    def host(self, name: str, number: int) -> Iterator[Host]:
        """A node for the body, its uplink eth0 carrying packets."""
        with host(f"{self.name}-{name}") as made:
            self._place.run(f"ip link add p{number} type veth peer name eth0 netns {made.name}")
            self._place.run(f"ip link set p{number} master lan up")
            made.run(f"ip addr add {address(number)}/24 dev eth0")
            made.run("ip link set eth0 up")
            made.run(f"ip route add default via {address(254)}")
            made.run("sysctl -qw net.ipv4.conf.all.rp_filter=0")
            yield made


def address(number: int) -> str:
    """The underlay address of node ``number``."""
    return f"192.0.2.{number}"


@contextlib.contextmanager
def segment(name: str) -> Iterator[Segment]:
    """For the body."""
    with host(f"{name}-segment") as place:
        yield Segment(name, place)


def carries(one: Host, to: str) -> None:
    """Wait until packets pass: a new port of a bridge takes up to a second."""
    until(lambda: _pings(one, to), f"{one.name} has no way to {to}")


def _pings(one: Host, to: str) -> bool:
    with one.entered():
        done = subprocess.run(["busybox", "ping", "-c", "1", "-W", "1", to], capture_output=True)
    return done.returncode == 0


def until(holds, what: str, patience: float = 60.0) -> None:  # type: ignore[no-untyped-def]
    """Wait for a condition. Raises RuntimeError."""
    end = time.monotonic() + patience
    while not holds():
        if time.monotonic() > end:
            raise RuntimeError(what)
        time.sleep(0.01)


@contextlib.contextmanager
def etcd(place: Segment, directory: Path) -> Iterator[Host]:
    """Debian's etcd at ``ETCD``, its disk as durable as it is by default."""
    with place.host("etcd", 250) as one:
        urls = [
            "--listen-client-urls",
            "http://0.0.0.0:2379",
            "--advertise-client-urls",
            f"http://{ETCD}:2379",
        ]
        data = ["--data-dir", str(directory / f"{place.name}-etcd"), "--log-level", "error"]
        process = one.spawn("etcd", *data, *urls, "--listen-peer-urls", "http://127.0.0.1:2380")
        try:
            until(lambda: _healthy(one), "etcd is not healthy")
            yield one
        finally:
            process.kill()
            process.wait()


def _healthy(one: Host) -> bool:
    with one.entered(), contextlib.suppress(OSError):
        with urllib.request.urlopen(f"http://{ETCD}:2379/health", timeout=1) as answer:
            return bool(answer.status == 200)
    return False

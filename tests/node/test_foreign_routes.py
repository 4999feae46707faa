"""Doctor names routes that others made into pods' blocks, and no other route."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

import msgspec
import pytest

from podway.model import bgp
from podway.model.objects import Route
from podway.observe import routes
from podway.store import Record, open_store

BLOCKS = {"10.244.1.0/26": "a", "10.244.2.0/26": "b", "fd00:10:244::/122": "b"}


def test_whose_route_does_harm() -> None:
    there = {"dst": "10.244.2.0/26", "via": "192.0.2.9", "dev": "eth0"}
    own = [Route(**there), Route(**there, protocol=bgp.PROTOCOL, metric=bgp.METRIC)]  # type: ignore[arg-type]
    wider = [
        Route(dst=dst, dev="eth0", protocol=4)
        for dst in ("0.0.0.0/0", "10.244.0.0/16", "::/0", "10.9.0.0/26")
    ]
    harm = [
        Route(**there, protocol=4),  # type: ignore[arg-type]
        Route(**there, protocol=bgp.PROTOCOL),  # type: ignore[arg-type]
        Route(dst="10.244.2.7/32", dev="eth0", protocol=3),
        Route(dst="fd00:10:244::1/128", dev="eth0", protocol=3),
    ]
    found = list(routes.foreign([*own, *wider, *harm], BLOCKS))
    assert [route for route, _ in found] == harm
    assert {block for _, block in found} == {"10.244.2.0/26", "fd00:10:244::/122"}


@pytest.mark.kernel
def test_in_the_kernel(tmp_path: Path, in_namespace: int) -> None:
    url = f"sqlite:{tmp_path}/store.db"
    with contextlib.closing(open_store(url, create=True)) as store:
        for cidr, node in BLOCKS.items():
            spec = {"node": node, "network": "pods", "attach": "routed"}
            store.create(Record(kind="Block", name=cidr, spec=msgspec.json.encode(spec)))

    def ip(command: str) -> None:
        subprocess.run(["ip", *command.split()], check=True)

    for command in (
        "link set lo up",
        "address add 192.0.2.1/24 dev lo",
        "route add 10.244.0.0/16 dev lo",
        "route add 10.244.1.1/32 dev lo proto 112",
    ):
        ip(command)
    assert not list(routes.checks(url))
    ip("route add 10.244.2.0/26 via 192.0.2.9 dev lo proto static")
    (one,) = routes.checks(url)
    assert one.detail == (
        "10.244.2.0/26 via 192.0.2.9 dev lo (protocol static) is not Podway's, and goes before its way to "
        "pods of block 10.244.2.0/26 of node b"
    )
    assert "ip route del 10.244.2.0/26 via 192.0.2.9 dev lo" in one.fix

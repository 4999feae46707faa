"""Published SCTP ports on a kernel that has SCTP: by the cluster plugin's engine, and by drop-in portmap."""

from __future__ import annotations

import functools
import os
import socket
from pathlib import Path

import harness
import pytest
from dropin_lab import Lab, pods

from podway.kernel import namespaces
from podway.model.resources import PortMap

pytestmark = pytest.mark.guest
server = functools.partial(harness.server, protocol=socket.IPPROTO_SCTP)
HOSTS = ((4, harness.NODE4, harness.OUTSIDE4), (6, harness.NODE6, harness.OUTSIDE6))
ask = functools.partial(harness.ask, protocol=socket.IPPROTO_SCTP)


@pytest.mark.parametrize("attach", ["bridge", "routed"])
def test_a_port_is_reached_from_everywhere(tmp_path: Path, in_namespace: int, attach: str) -> None:
    """And by none any more once the pod is gone."""
    ports = (PortMap(host_port=5000, container_port=50, protocol="sctp"),)
    with harness.scene(tmp_path, attach=attach) as scene:
        pod, _ = scene.pod("web", ports=ports)
        neighbour, _ = scene.pod("other")
        for family, host, beyond in (
            (4, harness.NODE4, harness.OUTSIDE4),
            (6, harness.NODE6, harness.OUTSIDE6),
        ):
            with server(pod, 50, family=family):
                assert ask(scene.outside, host, 5000) == beyond
                for place in (scene.node, neighbour, pod):
                    assert ask(place, host, 5000), (family, place)
                if family == 4:
                    assert ask(scene.node, "127.0.0.1", 5000)
        scene.engine.delete("web", "eth0")
        assert ask(scene.outside, harness.NODE4, 5000) is None


def test_drop_in_portmap(tmp_path: Path, in_namespace: int) -> None:
    """After drop-in bridge, from the node and from the pod's neighbour."""
    node = Lab(tmp_path)
    ipam = {"type": "host-local", "dataDir": str(node.data), "ranges": [[{"subnet": "10.88.0.0/16"}]]}
    common = {"cniVersion": "1.0.0", "name": "net"}
    bridge = common | {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipam": ipam}
    mapping = {"hostPort": 5000, "containerPort": 50, "protocol": "sctp"}
    portmap = common | {"type": "portmap", "runtimeConfig": {"portMappings": [mapping]}}
    names = [f"sctp{os.getpid()}{end}" for end in "ab"]
    with pods(names[0]), pods(names[1]):
        given = [node.call("ADD", bridge, name) for name in names]
        node.call("ADD", portmap, names[0], before=given[0])
        spaces = [namespaces.open_namespace(f"/run/netns/{name}") for name in names]
        own = os.open(namespaces.OWN, os.O_RDONLY)
        gateway = given[0]["ips"][0]["gateway"]
        with server(spaces[0], 50):
            assert ask(own, gateway, 5000)
            assert ask(spaces[1], gateway, 5000)
        node.call("DEL", portmap, names[0])
        assert ask(own, gateway, 5000) is None
        for fd in (own, *spaces):
            os.close(fd)

"""Published ports are reached from outside, from the node, from the pod itself and from its neighbours."""

from __future__ import annotations

import socket
from pathlib import Path

import harness
import pytest

from podway.kernel import namespaces
from podway.model.errors import Conflict
from podway.model.resources import PortMap

pytestmark = pytest.mark.kernel

TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM


@pytest.mark.parametrize("kind", [TCP, UDP], ids=["tcp", "udp"])
@pytest.mark.parametrize("family", [4, 6])
def test_from_everywhere(tmp_path: Path, in_namespace: int, kind: int, family: int) -> None:
    ports = (PortMap(host_port=8080, container_port=80, protocol="tcp" if kind == TCP else "udp"),)
    host = harness.NODE4 if family == 4 else harness.NODE6
    with harness.scene(tmp_path) as scene:
        pod, own = scene.pod("web", ports=ports)
        neighbour, _ = scene.pod("other")
        gateway = own.gateways[0 if family == 4 else 1]
        with harness.server(pod, 80, kind, family):
            outside = harness.ask(scene.outside, host, 8080, kind)
            assert outside == (harness.OUTSIDE4 if family == 4 else harness.OUTSIDE6)
            for place, where in (("node", scene.node), ("pod", pod), ("neighbour", neighbour)):
                for address in (host, gateway):
                    assert harness.ask(where, address, 8080, kind), (place, address)
            if family == 4:
                assert harness.ask(scene.node, "127.0.0.1", 8080, kind)


def test_on_one_address_only(tmp_path: Path, in_namespace: int) -> None:
    ports = (PortMap(host_port=8080, container_port=80, host_ip=harness.NODE4),)
    with harness.scene(tmp_path) as scene:
        pod, own = scene.pod("web", ports=ports)
        with harness.server(pod, 80):
            assert harness.ask(scene.outside, harness.NODE4, 8080)
            assert harness.ask(scene.node, own.gateways[0], 8080) is None


def test_unpublished_again(tmp_path: Path, in_namespace: int) -> None:
    with harness.scene(tmp_path) as scene:
        pod, _ = scene.pod("web", ports=(PortMap(host_port=8080, container_port=80),))
        with harness.server(pod, 80):
            assert harness.ask(scene.outside, harness.NODE4, 8080)
            scene.engine.delete("web", "eth0")
            assert harness.ask(scene.outside, harness.NODE4, 8080) is None


def test_a_udp_flow_follows_the_port_to_its_new_pod(tmp_path: Path, in_namespace: int) -> None:
    """A flow's conntrack entry from before would keep it on the old way for as long as it talks."""
    port = (PortMap(host_port=5353, container_port=53, protocol="udp"),)
    with harness.scene(tmp_path) as scene:
        client = harness.sock(scene.outside, harness.NODE4, UDP)
        client.connect((harness.NODE4, 5353))
        client.send(b"nobody listens yet")
        with pytest.raises(OSError):
            client.recv(100)
        pod, _ = scene.pod("dns", ports=port)
        scene.engine.attachments.burial.complete()  # what the agent does after its answer
        with harness.server(pod, 53, UDP):
            client.send(b"?")
            assert client.recv(100).decode() == harness.OUTSIDE4
        client.close()


def test_127_0_0_1_of_the_node_is_nobody_elses(tmp_path: Path, in_namespace: int) -> None:
    with harness.scene(tmp_path) as scene:
        pod, own = scene.pod("evil")
        with harness.server(scene.node, 9999):
            with namespaces.entered(pod):
                harness.run("sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1")
                harness.run("ip", "route", "del", "local", "127.0.0.0/8", "dev", "lo", "table", "local")
                harness.run("ip", "route", "del", "local", "127.0.0.1", "dev", "lo", "table", "local")
                harness.run("ip", "route", "add", "127.0.0.1/32", "via", own.gateways[0], "dev", "eth0")
            assert harness.ask(scene.node, "127.0.0.1", 9999)
            assert harness.ask(pod, "127.0.0.1", 9999) is None


def test_a_listening_process_is_named(tmp_path: Path, in_namespace: int) -> None:
    with harness.scene(tmp_path) as scene, harness.server(scene.node, 8080):
        with pytest.raises(Conflict, match=r"in use: .*\[\d+\] listens on \*:8080"):
            scene.pod("web", ports=(PortMap(host_port=8080, container_port=80),))

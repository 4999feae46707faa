"""Published ports are reached from outside, from the node, from the pod itself and from its neighbours."""

from __future__ import annotations

import functools
import socket
import subprocess
import sys
import time
from pathlib import Path

import harness
import pytest

from podway.kernel import listeners, namespaces
from podway.model.errors import Conflict, InvalidInput
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


def test_on_one_ipv6_address_only(tmp_path: Path, in_namespace: int) -> None:
    """The other family's map."""
    ports = (PortMap(host_port=8080, container_port=80, host_ip=harness.NODE6),)
    with harness.scene(tmp_path) as scene:
        pod, own = scene.pod("web", ports=ports)
        with harness.server(pod, 80, family=6):
            assert harness.ask(scene.outside, harness.NODE6, 8080)
            assert harness.ask(scene.node, own.gateways[1], 8080) is None


def test_on_127_0_0_1_only(tmp_path: Path, in_namespace: int) -> None:
    """What a developer's database wants: the node itself and nobody else."""
    ports = (PortMap(host_port=8080, container_port=80, host_ip="127.0.0.1"),)
    with harness.scene(tmp_path) as scene:
        pod, _ = scene.pod("web", ports=ports)
        with harness.server(pod, 80):
            assert harness.ask(scene.node, "127.0.0.1", 8080)
            assert harness.ask(scene.node, harness.NODE4, 8080) is None
            assert harness.ask(scene.outside, harness.NODE4, 8080) is None


def test_a_range(tmp_path: Path, in_namespace: int) -> None:
    """As runtimes send one: a mapping for each port. All go again with the pod."""
    ports = tuple(PortMap(host_port=20000 + n, container_port=30000 + n) for n in range(500))
    with harness.scene(tmp_path) as scene:
        pod, _ = scene.pod("web", ports=ports)
        for number in (0, 250, 499):
            with harness.server(pod, 30000 + number):
                assert harness.ask(scene.outside, harness.NODE4, 20000 + number)
        with pytest.raises(Conflict, match="20499/tcp is taken by pod web"):
            scene.pod("other", ports=ports[499:])
        scene.engine.delete("web", "eth0")
        assert "20250" not in harness.run("nft", "list", "map", "inet", "podway", "ports4")
        scene.pod("other", ports=ports)


def test_sctp_rules(tmp_path: Path, in_namespace: int) -> None:
    """The same maps and rules as for TCP, of which the next kernel with SCTP makes use."""
    with harness.scene(tmp_path) as scene:
        _, own = scene.pod("web", ports=(PortMap(host_port=5000, container_port=50, protocol="sctp"),))
        for family, address in zip("46", own.addresses, strict=True):
            shown = harness.run("nft", "list", "map", "inet", "podway", f"ports{family}")
            assert f"sctp . 5000 : {address.partition('/')[0]} . 50" in shown
        rules = harness.run("nft", "list", "chain", "inet", "podway", "prerouting")
        assert "dnat ip to meta l4proto . th dport map @ports4" in rules


@pytest.mark.parametrize(
    ("host", "words"),
    [("::1", "the kernel forwards nothing from ::1"), ("2001:db8::1", "the pod has no IPv6 address")],
)
def test_an_address_that_can_not_be_published_on(
    tmp_path: Path, in_namespace: int, host: str, words: str
) -> None:
    """Said at once, and not found out by silence."""
    pools = [{"cidr": "10.244.0.0/16"}, *([{"cidr": "fd00::/48"}] if host == "::1" else [])]
    with harness.scene(tmp_path, pools=pools) as scene:
        with pytest.raises(InvalidInput, match=words):
            scene.pod("web", ports=(PortMap(host_port=8080, container_port=80, host_ip=host),))
        assert "podway:pod" not in harness.run("ip", "link")


@pytest.mark.parametrize(
    ("first", "second", "meet"),
    [
        ("", "192.0.2.1", True),
        ("0.0.0.0", "192.0.2.1", True),
        ("0.0.0.0", "", True),
        ("::", "2001:db8::1", True),
        ("0.0.0.0", "2001:db8::1", False),
        ("0.0.0.0", "::", False),
        ("127.0.0.1", "192.0.2.1", False),
    ],
)
def test_which_addresses_meet(first: str, second: str, meet: bool) -> None:
    """Two pods have one port where no address of the node is both's."""
    one, other = (PortMap(host_port=8080, container_port=80, host_ip=host) for host in (first, second))
    assert one.meets(other) == other.meets(one) == meet
    assert not one.meets(PortMap(host_port=8080, container_port=80, host_ip=first, protocol="udp"))


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


def test_the_containers_own_supervisor_may_hold_the_port(tmp_path: Path, in_namespace: int) -> None:
    """podman's conmon listens on what its container publishes; a network is connected to one that runs."""
    listens = "import socket; socket.create_server(('', 8080)).accept()"
    supervisor = subprocess.Popen([sys.executable, "-Ic", listens, "-c", "web"])
    try:
        while not listeners.find("tcp", "", 8080):
            time.sleep(0.01)
        with harness.scene(tmp_path) as scene:
            with pytest.raises(Conflict, match=r"in use: .*listens on \*:8080"):
                scene.pod("other", ports=(PortMap(host_port=8080, container_port=80),))
            scene.pod("web", ports=(PortMap(host_port=8080, container_port=80),))
    finally:
        supervisor.kill()
        supervisor.wait()


@pytest.mark.parametrize("attach", ["bridge", "routed"])
def test_by_two_networks_of_one_pod(tmp_path: Path, in_namespace: int, attach: str) -> None:
    """The port leads to the first interface that is there, and what is asked of either is answered by it."""
    ports = (PortMap(host_port=8080, container_port=80),)
    with harness.scene(tmp_path, attach=attach, cooldown=0) as scene:
        pools = [{"cidr": "10.9.0.0/16"}, {"cidr": "fd00:9::/48"}]
        scene.declare("second", pools=pools, attach=attach, cooldown=0)
        pod, first = scene.pod("web", ports=ports)
        ask = functools.partial(_request, ports)
        second = scene.engine.add(ask("eth1", "second"), pod)
        for family, node in ((4, harness.NODE4), (6, harness.NODE6)):
            own, other = (one.addresses[0 if family == 4 else 1].partition("/")[0] for one in (first, second))
            outside = harness.OUTSIDE4 if family == 4 else harness.OUTSIDE6
            with harness.server(pod, 80, family=family):
                for address, port in ((node, 8080), (own, 80), (other, 80)):
                    assert harness.ask(scene.outside, address, port) == outside, address
        stands = {"eth0": first, "eth1": second}
        for gone, left in (("eth0", "eth1"), ("eth1", "eth0")):
            for one in stands.values():
                scene.engine.check(ask(one.ifname, one.network), pod, one.addresses)
            scene.engine.delete("web", gone)
            shown = harness.run("nft", "list", "map", "inet", "podway", "ports4")
            assert f"tcp . 8080 : {stands[left].addresses[0].partition('/')[0]} . 80" in shown
            with harness.server(pod, 80):
                assert harness.ask(scene.outside, harness.NODE4, 8080) == harness.OUTSIDE4
            stands[gone] = scene.engine.add(ask(gone, stands[gone].network), pod)
        with pytest.raises(Conflict, match="8080/tcp is taken by pod web"):
            scene.pod("other", ports=ports)
        assert not scene.engine.reconciler.plan()[0]


def _request(ports: tuple[PortMap, ...], ifname: str, network: str) -> harness.AttachRequest:
    return harness.AttachRequest(
        container="web", ifname=ifname, network=network, namespace="/nowhere", ports=ports
    )

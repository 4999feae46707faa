"""Routed pods: no bridge, one host route each; the same traffic as on a bridge, and nobody else's address."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import subprocess
from pathlib import Path

import harness
import pytest

from podway.kernel import namespaces
from podway.model.resources import Endpoint, PortMap
from podway.node import rebuild

pytestmark = pytest.mark.kernel

TCP_REPAIR = 19  # linux/tcp.h
TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM
POOLS = ["10.244.0.0/16", "fd00:10:244::/48"]


def _bare(endpoint: Endpoint, family: int) -> str:
    return endpoint.addresses[0 if family == 4 else 1].partition("/")[0]


def _ping(namespace: int, *arguments: str) -> bool:
    with namespaces.entered(namespace):
        command = ["ping", "-c2", "-i0.2", "-W1", *arguments]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _drops(table: str, family: str, reason: str) -> int:
    for line in harness.run("nft", "list", "chain", family, "podway", table).splitlines():
        if reason in line:
            return int(line.split("packets ")[1].split()[0])
    raise AssertionError(reason)


def test_what_stands_on_the_node_and_in_the_pod(tmp_path: Path, in_namespace: int) -> None:
    with harness.scene(tmp_path, attach="routed") as scene:
        pod, own = scene.pod("web")
        four, six = own.addresses
        assert four.endswith("/32") and six.endswith("/128") and own.bridge == ""
        assert f"{_bare(own, 4)} dev {own.host_link} proto 112 scope link" in harness.run("ip", "route")
        assert f"{_bare(own, 6)} dev {own.host_link} proto 112" in harness.run("ip", "-6", "route")
        assert "type bridge" not in harness.run("ip", "-d", "link")
        (block,) = [line for line in harness.run("ip", "route").splitlines() if line.startswith("blackhole")]
        assert block.split()[1].endswith("/26")
        assert "ee:ee:ee:ee:ee:ee" in harness.run("ip", "link", "show", own.host_link)
        with namespaces.entered(pod):
            inside = harness.run("ip", "route").splitlines()
            assert "default via 169.254.1.1 dev eth0 onlink " in inside
            assert "default via fe80::ecee:eeff:feee:eeee dev eth0" in harness.run("ip", "-6", "route")
        assert not scene.engine.reconciler.plan()[0]


@pytest.mark.parametrize("family", [4, 6])
def test_pods_the_node_and_the_world(tmp_path: Path, in_namespace: int, family: int) -> None:
    """Pod to pod and pod to node unchanged, masqueraded only where it leaves the cluster."""
    node = harness.NODE4 if family == 4 else harness.NODE6
    world = harness.OUTSIDE4 if family == 4 else harness.OUTSIDE6
    with harness.scene(tmp_path, attach="routed") as scene:
        (one, first), (other, second) = scene.pod("one"), scene.pod("other")
        with harness.server(other, 80, TCP, family), harness.server(scene.node, 81, TCP, family):
            assert harness.ask(one, _bare(second, family), 80) == _bare(first, family)
            assert harness.ask(one, node, 81) == _bare(first, family)
            assert harness.ask(scene.node, _bare(second, family), 80) == node
            assert harness.ask(scene.outside, _bare(second, family), 80) == world
        with harness.server(scene.outside, 82, TCP, family):
            assert harness.ask(one, world, 82) == node


def test_a_host_without_a_default_route(tmp_path: Path, in_namespace: int) -> None:
    """Proxy ARP answers for 169.254.1.1 only where the node has a route to it."""
    with harness.scene(tmp_path, attach="routed") as scene:
        harness.run("ip", "route", "del", "default")
        harness.run("ip", "-6", "route", "del", "default")
        one, _ = scene.pod("one")
        for address in (harness.NODE4, harness.NODE6, harness.OUTSIDE4, harness.OUTSIDE6):
            assert _ping(one, address), address


@pytest.mark.parametrize("kind", [TCP, UDP], ids=["tcp", "udp"])
@pytest.mark.parametrize("family", [4, 6])
def test_published_ports(tmp_path: Path, in_namespace: int, kind: int, family: int) -> None:
    ports = (PortMap(host_port=8080, container_port=80, protocol="tcp" if kind == TCP else "udp"),)
    host = harness.NODE4 if family == 4 else harness.NODE6
    with harness.scene(tmp_path, attach="routed") as scene:
        pod, _ = scene.pod("web", ports=ports)
        neighbour, _ = scene.pod("other")
        with harness.server(pod, 80, kind, family):
            outside = harness.ask(scene.outside, host, 8080, kind)
            assert outside == (harness.OUTSIDE4 if family == 4 else harness.OUTSIDE6)
            for place, where in (("node", scene.node), ("pod", pod), ("neighbour", neighbour)):
                assert harness.ask(where, host, 8080, kind), place
            if family == 4:
                assert harness.ask(scene.node, "127.0.0.1", 8080, kind)


def _reverse_path(rp_filter: str) -> None:
    """As a distribution or an administrator may have it; with accept_local even the node's own pass it."""
    harness.run(
        "sysctl", "-qw", f"net/ipv4/conf/all/rp_filter={rp_filter}", "net/ipv4/conf/all/accept_local=1"
    )


@pytest.mark.parametrize("rp_filter", ["0", "1", "2"])
@pytest.mark.parametrize("family", [4, 6])
def test_a_foreign_source_address(tmp_path: Path, in_namespace: int, family: int, rp_filter: str) -> None:
    """Another pod's, the node's, a machine's elsewhere: none is of use, to whomever; its own address is."""
    _reverse_path(rp_filter)
    node = harness.NODE4 if family == 4 else harness.NODE6
    world = harness.OUTSIDE4 if family == 4 else harness.OUTSIDE6
    with harness.scene(tmp_path, attach="routed") as scene:
        evil, own = scene.pod("evil")
        _, victim = scene.pod("victim")
        _, other = scene.pod("other")
        everywhere = (node, world, _bare(other, family))
        for goal in everywhere:
            assert _ping(evil, "-I", _bare(own, family), goal), goal
        for foreign in (_bare(victim, family), node, world):
            for goal in {*everywhere} - {foreign}:
                with namespaces.entered(evil):
                    length, more = ("/32", []) if family == 4 else ("/128", ["nodad"])
                    harness.run("ip", "address", "add", foreign + length, "dev", "eth0", *more)
                before = _drops("guard", "inet", f"IPv{family} source")
                assert not _ping(evil, "-I", foreign, goal), (foreign, goal)
                assert _drops("guard", "inet", f"IPv{family} source") > before, (foreign, goal)
                with namespaces.entered(evil):
                    harness.run("ip", "address", "del", foreign + length, "dev", "eth0")


@pytest.mark.parametrize("rp_filter", ["0", "1", "2"])
def test_false_arp_and_neighbour_advertisements(tmp_path: Path, in_namespace: int, rp_filter: str) -> None:
    """For another pod's address, the node's and a machine's elsewhere, as question and as answer."""
    _reverse_path(rp_filter)
    with harness.scene(tmp_path, attach="routed") as scene:
        evil, own = scene.pod("evil")
        _, victim = scene.pod("victim")
        with namespaces.entered(evil):
            raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
            raw.bind(("eth0", 0))
        mac = bytes.fromhex(own.mac.replace(":", ""))
        host = bytes.fromhex("ee" * 6)
        fours = (_bare(victim, 4), harness.NODE4, harness.OUTSIDE4)
        sixes = (_bare(victim, 6), harness.NODE6, harness.OUTSIDE6)
        for stolen in fours:
            for kind in (b"\0\1", b"\0\2"):
                arp = b"\0\1\x08\0\6\4" + kind + mac + socket.inet_aton(stolen)
                raw.send(host + mac + b"\x08\x06" + arp + host + socket.inet_aton("169.254.1.1"))
        for stolen in sixes:
            advertisement = _advertisement(scene, own, socket.inet_pton(socket.AF_INET6, stolen))
            raw.send(host + mac + b"\x86\xdd" + advertisement)
        raw.close()
        assert _drops("guard", "arp", "ARP sender") == 2 * len(fours)
        assert _drops("guard", "inet", "neighbour advertisement") == len(sixes)
        for address in (*fours, *sixes):
            assert own.mac not in harness.run("ip", "neighbour", "show", address)


def _advertisement(scene: harness.Scene, own: Endpoint, target: bytes) -> bytes:
    """An unsolicited NA (RFC 4861 section 4.4) of ``target`` from the pod's own address to the node."""
    source = socket.inet_pton(socket.AF_INET6, _bare(own, 6))
    goal = socket.inet_pton(socket.AF_INET6, harness.NODE6)
    option = b"\2\1" + bytes.fromhex(own.mac.replace(":", ""))
    body = b"\x88\0\0\0\x20\0\0\0" + target + option
    pseudo = source + goal + len(body).to_bytes(4, "big") + b"\0\0\0\x3a"
    total = sum(int.from_bytes((pseudo + body)[i : i + 2], "big") for i in range(0, len(pseudo + body), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    body = body[:2] + (total ^ 0xFFFF).to_bytes(2, "big") + body[4:]
    return b"\x60\0\0\0" + len(body).to_bytes(2, "big") + b"\x3a\xff" + source + goal + body


@pytest.mark.parametrize("family", [4, 6])
def test_an_unused_address_leads_nowhere(tmp_path: Path, in_namespace: int, family: int) -> None:
    """Without the block's blackhole route a packet from outside would go back to where it came from."""
    with harness.scene(tmp_path, attach="routed") as scene:
        _, own = scene.pod("one")
        cidrs = scene.engine.cluster.snapshot.blocks
        block = next(net for net in map(ipaddress.ip_network, cidrs) if net.version == family)
        unused = str(block[60])
        assert unused != _bare(own, family)
        shown = subprocess.run(["ip", "route", "get", unused], capture_output=True, text=True, check=False)
        assert shown.returncode != 0 and "Invalid argument" in shown.stderr
        before = _came_back(scene, unused)
        harness.run("ip", f"-{family}", "route", "del", "blackhole", str(block))
        after = _came_back(scene, unused)
        assert (before, after > 0) == (0, True)


def _came_back(scene: harness.Scene, address: str) -> int:
    """How many frames with an address as destination the node sends out, when it is pinged from there."""
    with namespaces.entered(scene.outside):
        ear = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))  # ETH_P_ALL
    with ear:
        ear.bind(("up0", 0))
        ear.setblocking(False)
        assert not harness.ping(scene.outside, address, wait=1)
        raw = ipaddress.ip_address(address).packed
        place = slice(30, 34) if len(raw) == 4 else slice(38, 54)
        found = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                frame, origin = ear.recvfrom(2048)
                found += origin[2] == socket.PACKET_HOST and frame[place] == raw
        return found


def test_two_interfaces_of_one_pod(tmp_path: Path, in_namespace: int) -> None:
    with harness.scene(tmp_path, attach="routed") as scene:
        pod, first = scene.pod("one")
        other, there = scene.pod("other")
        asked = {"container": "one", "ifname": "net1", "network": "pods", "namespace": "/nowhere"}
        request = harness.AttachRequest(**asked, default_route=False)  # type: ignore[arg-type]
        second = scene.engine.add(request, pod)
        for family in (4, 6):
            with harness.server(pod, 80, TCP, family):
                for endpoint in (first, second):
                    assert harness.ask(other, _bare(endpoint, family), 80) == _bare(there, family)
        scene.engine.delete("one", "net1")
        assert _ping(other, _bare(first, 4))


def test_an_address_moves_to_another_pod(tmp_path: Path, in_namespace: int) -> None:
    """Whoever spoke with the pod before goes on with the one after, by the same ports: connections of the old
    that the node still tracks, and neighbours that it knew, are in nobody's way."""
    with harness.scene(tmp_path, attach="routed", cooldown=0) as scene:
        client, _ = scene.pod("client")
        before, own = scene.pod("before")
        addresses = [_bare(own, family) for family in (4, 6)]
        flows = []
        for place in (client, scene.outside):
            for family, address in zip((4, 6), addresses, strict=True):
                with harness.server(before, 80, UDP, family), harness.server(before, 81, TCP, family):
                    datagrams = harness.sock(place, address, UDP)
                    datagrams.connect((address, 80))
                    datagrams.send(b"?")
                    assert datagrams.recv(100)
                    stream = harness.sock(place, address, TCP)
                    stream.connect((address, 81))
                    assert stream.recv(100)
                    flows.append((place, family, address, datagrams, stream.getsockname()))
                    # gone without a word, as with its machine: the node takes it for established
                    stream.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
                    stream.close()
        scene.engine.delete("before", "eth0")
        after, new = scene.pod("after", ips=tuple(addresses))
        assert new.addresses == own.addresses
        for place, family, address, datagrams, name in flows:
            with harness.server(after, 80, UDP, family), harness.server(after, 81, TCP, family):
                datagrams.send(b"?")
                assert datagrams.recv(100)
                datagrams.close()
                stream = harness.sock(place, address, TCP)
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                stream.bind(name)
                stream.connect((address, 81))
                assert stream.recv(100)
                stream.close()


def test_attach_is_changed_while_pods_run(tmp_path: Path, in_namespace: int) -> None:
    """Old pods stay on their bridge, new ones are routed out of blocks of their own, all reach each other."""
    with harness.scene(tmp_path) as scene:
        old, bridged = scene.pod("old")
        scene.change(attach="routed")
        new, routed = scene.pod("new")
        assert bridged.bridge and not routed.bridge
        assert not scene.engine.reconciler.plan()[0]
        for family in (4, 6):
            with harness.server(new, 80, TCP, family), harness.server(old, 81, TCP, family):
                assert harness.ask(old, _bare(routed, family), 80) == _bare(bridged, family)
                assert harness.ask(new, _bare(bridged, family), 81) == _bare(routed, family)


def test_a_lost_database_is_rebuilt(tmp_path: Path, in_namespace: int) -> None:
    with harness.scene(tmp_path, attach="routed") as scene:
        ports = (PortMap(host_port=8080, container_port=80),)
        _, own = scene.pod("web", ports=ports)
        networks = scene.engine.cluster.snapshot.networks
        (found,) = rebuild.endpoints(scene.engine.kernel, networks, own.boot_id)
        assert (found.addresses, found.network, found.bridge, found.ports) == (
            own.addresses,
            "pods",
            "",
            ports,
        )

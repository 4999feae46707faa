"""Pods behind a path that carries less than their MTU: nothing vanishes, TCP doesn't stall."""

from __future__ import annotations

import errno
import re
import socket
import threading
import time
from collections.abc import Callable

import pytest
from liveness_pair import PATIENCE, Pair

from podway.kernel import namespaces

pytestmark = pytest.mark.kernel
IP_MTU_DISCOVER, PMTUDISC_DO, IP_MTU = 10, 2, 14  # linux/in.h
VOLUME = 400_000


def _address(pair: Pair, pod: int) -> str:
    found = re.search(r"inet (10\.244\.[\d.]+)/", pair.run(pod, "ip -4 address show dev eth0"))
    assert found is not None
    return found[1]


def _socket(pod: int, kind: int) -> socket.socket:
    with namespaces.entered(pod):
        made = socket.socket(socket.AF_INET, kind)
    made.settimeout(PATIENCE)
    return made


def _transfer(pair: Pair, sender: int, receiver: int) -> int:
    """VOLUME bytes over one connection, in segments of what MSS? Returns it, as the sender sees it."""
    with _socket(receiver, socket.SOCK_STREAM) as listening:
        listening.bind(("", 0))
        listening.listen()
        received: list[int] = []

        def take() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.settimeout(PATIENCE)
                while data := connection.recv(65536):
                    received.append(len(data))

        thread = threading.Thread(target=take)
        thread.start()
        with _socket(sender, socket.SOCK_STREAM) as sending:
            sending.connect((_address(pair, receiver), listening.getsockname()[1]))
            sending.sendall(bytes(VOLUME))
            mss = sending.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
        thread.join(PATIENCE)
    assert sum(received) == VOLUME
    return mss


def _told_mtu(pair: Pair, sender: int, receiver: int, size: int) -> int:
    """What the sender's kernel learns from its own node when it sends datagrams of ``size`` with DF."""
    with _socket(sender, socket.SOCK_DGRAM) as sending:
        sending.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_DO)
        sending.connect((_address(pair, receiver), 9))
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                sending.send(bytes(size - 28))
            except OSError as error:
                if error.errno == errno.EMSGSIZE:
                    return sending.getsockopt(socket.IPPROTO_IP, IP_MTU)
            time.sleep(0.05)
    raise AssertionError("it was never told")


def test_behind_a_hole(make_pair: Callable[..., Pair]) -> None:
    """Both nodes find it; connections are clamped to it, datagrams are told by their own node."""
    pair = make_pair()
    for node in pair.nodes:
        pair.until_title(node, "ok")
        pair.real_frames(node)
    pods = {node: pair.pod(node) for node in pair.nodes}
    assert _transfer(pair, pods["a"], pods["b"]) > 1310
    with pair.damaged("meta length > 1400 drop"):
        for node, cidr in (("a", "10.244.2.0/24"), ("b", "10.244.1.0/24")):
            pair.until_output(node, f"ip route show {cidr}", "mtu 1350")
        for sender, receiver in (("a", "b"), ("b", "a")):
            assert _transfer(pair, pods[sender], pods[receiver]) <= 1310
            assert _told_mtu(pair, pods[sender], pods[receiver], 1450) == 1350


def test_jumbo_frames_on_one_side(make_pair: Callable[..., Pair]) -> None:
    """Nodes of 9000 and of 1500: no alarm, nothing clamped, and each sends what the other takes."""
    pair = make_pair(mtus={"a": 9000})
    for node in pair.nodes:
        pair.until_title(node, "ok")
    pods = {node: pair.pod(node) for node in pair.nodes}
    assert "mtu 8950" in pair.run(pods["a"], "ip link show dev eth0")
    assert "mtu 1450" in pair.run(pods["b"], "ip link show dev eth0")
    pair.until_output("a", "ip route show 10.244.2.0/24", "mtu 1450")
    assert "mtu" not in pair.run("b", "ip route show 10.244.1.0/24")
    assert {path["mtu"] for path in pair.peer("a")["paths"] if path["layer"] == "overlay"} == {1450}
    _transfer(pair, pods["a"], pods["b"])
    _transfer(pair, pods["b"], pods["a"])
    assert _told_mtu(pair, pods["a"], pods["b"], 8000) == 1450
    assert "maxseg" not in pair.run("a", "nft list table inet podway")


def test_a_tunnel_over_ipv6(make_pair: Callable[..., Pair]) -> None:
    """20 bytes more go around a packet; what the path should carry follows, and it does."""
    pair = make_pair(vxlan={"underlay": "ipv6"})
    found = pair.until_title("a", "ok")
    expected = {path["target"]: path["mtu"] for path in found["paths"]}
    assert expected == {"2001:db8::2": 1500, "10.244.2.0": 1430, "fd00:10:244:2::": 1430}
    with pair.damaged("udp dport 8472 drop"):
        pair.until_title("a", "UDP 8472 blocked")

"""transport: wireguard on a kernel that has it: three nodes, every pair, both families."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from changing import Lab, until
from lab_tools import running
from streams import running as traffic

from podway.kernel import namespaces
from podway.kernel.netlink.wireguard import Device
from podway.kernel.rtnetlink import Rtnetlink
from podway.kernel.wireguard import Wireguard
from podway.lab.place import find
from podway.model.objects import Op
from podway.plan.transport.wireguard import device_name
from podway.plan.way import Way

pytestmark = pytest.mark.guest

RATE = 50  # datagrams a second and flow: the guest is emulated
ALL = socket.htons(3)  # ETH_P_ALL
MARK = b"never-in-clear--"
T = TypeVar("T")


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with running(f"w{os.getpid()}", "--nodes", "3", "--pods", "1", "--preset", "flannel-wireguard") as name:
        made = Lab(name, 3)
        made.wait_settled()
        yield made


def change(lab: Lab, **wireguard: Any) -> None:
    lab.apply({"transport": "wireguard", "wireguard": wireguard})


def within(lab: Lab, node: str, job: Callable[[Wireguard], T]) -> T:
    """What is done to the devices of a node, without Podway."""
    fd = namespaces.open_namespace(str(find(lab.name).namespace(node)))
    try:
        with namespaces.entered(fd):
            links = Rtnetlink()
            wireguard = Wireguard(links.index)
            try:
                return job(wireguard)
            finally:
                wireguard.close()
                links.close()
    finally:
        os.close(fd)


def device(lab: Lab, node: str) -> Device | None:
    name = next((name for name in lab.devices(node) if name.startswith("pww")), "")
    return next(iter(within(lab, node, lambda wireguard: wireguard.look([name]))), None) if name else None


def settled_device(lab: Lab, node: str) -> Device:
    lab.wait_settled()
    found = device(lab, node)
    assert found is not None
    return found


def all_reach(lab: Lab) -> None:
    with traffic(lab.pods(), RATE) as seen:
        time.sleep(1)
    seen.verify(10)


def heard_on_the_wire(lab: Lab, node: str) -> list[bytes]:
    """Frames on a node's uplink while its pod sends the others what can be recognized."""
    fd = namespaces.open_namespace(str(find(lab.name).namespace(node)))
    with namespaces.entered(fd), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, ALL) as ear:
        os.close(fd)
        ear.bind(("eth0", 0))
        ear.settimeout(1)
        for pod in lab.pods():
            for address in pod.addresses if pod.name != f"{node}-1" else ():
                lab.inside(f"{node}-1", "ping", "-c", "3", "-i", "0.2", "-p", MARK.hex(), address)
        frames: list[bytes] = []
        try:
            while len(frames) < 10000:
                frames.append(ear.recv(2048))
        except TimeoutError:
            return frames
    raise AssertionError("the wire is never silent")


def test_every_pair_and_no_plaintext_on_the_wire(lab: Lab) -> None:
    all_reach(lab)
    frames = heard_on_the_wire(lab, "node1")
    encrypted = [f for f in frames if f[12:14] == b"\x08\x00" and f[23] == 17 and f[36:38] == b"\xca\x6c"]
    assert len(encrypted) >= 12  # to UDP port 51820
    assert not [frame for frame in frames if MARK[2:10] in frame]


def test_the_mtu_is_smaller_by_what_is_put_around_a_packet(lab: Lab) -> None:
    assert {pod: lab.sizes(pod) for pod in lab.pod_names} == {pod: {1440} for pod in lab.pod_names}
    for pod in lab.pods():
        if pod.name != "node1-1":
            for address in pod.addresses:
                around = 48 if ":" in address else 28
                size = str(1440 - around)
                lab.inside("node1-1", "ping", "-M", "do", "-c", "1", "-W", "5", "-s", size, address)


def test_a_private_key_is_in_its_file_alone(lab: Lab) -> None:
    place = find(lab.name)
    for node in lab.nodes:
        (file,) = place.node(node).rglob("wireguard/*.key")
        assert file.stat().st_mode & 0o777 == 0o600
        secret = file.read_bytes().strip()
        shown = [
            lab.inside(node, "podway", *words, check=None).encode()
            for words in (
                ("status",),
                ("plan",),
                ("journal",),
                ("get", "nodes", "-o", "yaml"),
                ("explain", f"{node}-1", "10.244.9.9"),
            )
        ]
        files = [path for path in Path(place.root).rglob("*") if path.is_file() and path != file]
        shown += [path.read_bytes() for path in files]
        found = settled_device(lab, node)
        assert found.device.public_key.encode() in b"".join(shown)
        assert not [text for text in shown if secret in text]


def test_a_peer_removed_by_hand_returns(lab: Lab) -> None:
    before = settled_device(lab, "node1")
    assert len(before.peers) == 2 and len(before.allowed) == 4 and len(before.met) == 2
    within(lab, "node1", lambda wireguard: wireguard.apply([Op(None, before.peers[0])]))

    def back() -> bool:
        now = device(lab, "node1")
        return now is not None and {*now.peers} == {*before.peers} and {*now.allowed} == {*before.allowed}

    until("the peer is back", back)
    all_reach(lab)


def test_a_prefix_removed_by_hand_returns(lab: Lab) -> None:
    before = settled_device(lab, "node2")
    within(lab, "node2", lambda wireguard: wireguard.apply([Op(None, before.allowed[0])]))
    until("the prefix is back", lambda: {*settled_device(lab, "node2").allowed} == {*before.allowed})


def test_a_device_that_was_deleted_returns_with_its_key(lab: Lab) -> None:
    before = settled_device(lab, "node1")
    lab.inside("node1", "ip", "link", "del", before.device.link)

    def back() -> bool:
        now = device(lab, "node1")
        return now is not None and now.device == before.device and len(now.met) == 2

    until("the device is back", back)
    all_reach(lab)


def test_an_agent_that_was_killed_finds_its_key(lab: Lab) -> None:
    before = settled_device(lab, "node3")
    with traffic(lab.pods(), RATE) as seen:
        os.kill(lab.agent_of("node3"), signal.SIGKILL)
        agent = lab.start_agent("node3")
        lab.wait_settled()
        time.sleep(1)
    seen.verify(10)
    assert agent.poll() is None
    assert settled_device(lab, "node3").device == before.device


def test_keys_are_rotated_without_loss(lab: Lab) -> None:
    """Another port: devices with new keys stand beside the old ones until everybody has met."""
    before = {node: settled_device(lab, node).device for node in lab.nodes}
    with traffic(lab.pods(), RATE) as seen:
        time.sleep(0.5)
        change(lab, port=51821)
        lab.wait_settled()
    seen.verify(10)
    after = {node: settled_device(lab, node).device for node in lab.nodes}
    assert all(before[node].public_key != after[node].public_key for node in lab.nodes)
    for node in lab.nodes:
        (file,) = find(lab.name).node(node).rglob("wireguard/*.key")
        assert "51821" in file.name
    assert after["node1"].link == device_name(Way("wireguard", port=51821, underlay=4))


@pytest.mark.parametrize(
    "spec",
    [
        {"transport": "vxlan"},
        {"transport": "wireguard"},
        {"transport": "host-gw"},
        {"transport": "wireguard", "wireguard": {"underlay": "ipv6"}},
        {"transport": "wireguard", "wireguard": {"directWithinSubnet": True, "allowPlaintext": True}},
        {"transport": "wireguard"},
    ],
    ids=["to vxlan", "from vxlan", "to host-gw", "over IPv6", "direct within the subnet", "never direct"],
)
def test_a_change_of_transport_loses_nothing(lab: Lab, spec: dict[str, Any]) -> None:
    with traffic(lab.pods(), RATE) as seen:
        time.sleep(0.5)
        lab.apply(spec)
        lab.wait_settled()
    seen.verify(10)


def test_routed_pods() -> None:
    with running(f"c{os.getpid()}", "--nodes", "2", "--pods", "1", "--preset", "calico-wireguard") as name:
        made = Lab(name, 2)
        made.wait_settled()
        all_reach(made)
        frames = heard_on_the_wire(made, "node1")
        assert not [frame for frame in frames if MARK[2:10] in frame]
        routes = json.loads(made.inside("node1", "ip", "-j", "route"))
        assert [r["dst"] for r in routes if r.get("dev", "").startswith("pww")] == [made.block_of("node2")]

"""transport: wireguard on a kernel that has it: every pair in both families, repair, changes without loss."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from two_nodes import Cluster, Machine, cluster
from under_traffic import change

from podway.kernel.netlink.wireguard import Device
from podway.model.objects import Op
from podway.node.preview import preview
from podway.plan.transport.wireguard import device_name
from podway.plan.way import Way

pytestmark = pytest.mark.guest

ZEROS = bytes(100)  # in every datagram and segment of the traffic
LAST = 50  # frames: of the time after a change


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("pair"), {"preset": "flannel-wireguard"}) as made:
        yield made


def devices(machine: Machine) -> list[Device]:
    return machine.within(
        lambda kernel: kernel.wireguard.look(
            key[1] for key in kernel.observe({"wgdevice"}) if key[0] == "wgdevice"
        )
    )


def device(machine: Machine) -> Device:
    (found,) = devices(machine)
    return found


def held(machine: Machine) -> set[object]:
    """All that its device has, handshakes apart."""
    found = device(machine)
    return {found.device, *found.peers, *found.allowed}


def readable(frames: list[bytes]) -> list[bytes]:
    """Those with something of the traffic in clear."""
    return [frame for frame in frames if ZEROS in frame]


def test_every_pair_and_no_plaintext_on_the_wire(pair: Cluster) -> None:
    """Preset flannel-wireguard: bridged pods."""
    frames = change(pair, {"preset": "flannel-wireguard"})
    encrypted = [f for f in frames if f[12:14] == b"\x08\x00" and f[23] == 17 and f[36:38] == b"\xca\x6c"]
    assert len(encrypted) >= 20  # to UDP port 51820
    assert not readable(frames)


def test_a_private_key_is_in_its_file_alone(pair: Cluster) -> None:
    whole = Path(pair.machines[0].engine.database.directory).parent  # store and both nodes
    places = [path for path in whole.rglob("*") if path.is_file()]
    keys = [path for path in places if path.suffix == ".key"]
    assert len(keys) == 2
    for key in keys:
        assert key.stat().st_mode & 0o777 == 0o600
        secret = key.read_bytes().strip()
        assert [path for path in places if secret in path.read_bytes()] == [key]


def test_what_was_removed_by_hand_returns(pair: Cluster) -> None:
    """A peer, a prefix, the whole device: it returns with its key."""
    machine = pair.machines[0]
    before, held_before = device(machine), held(machine)
    assert len(before.peers) == 1 and len(before.allowed) == 2 and len(before.met) == 1
    for lost in (before.peers[0], before.allowed[0]):
        machine.within(lambda kernel, lost=lost: kernel.apply([Op(None, lost)]))  # type: ignore[misc]
        assert held(machine) != held_before
        machine.look()
        assert held(machine) == held_before
    link = machine.engine.planner.desired["link", before.device.link]
    machine.within(lambda kernel: kernel.apply([Op(None, link)]))
    assert not devices(machine)
    machine.look()
    assert held(machine) == held_before


def test_podway_plan_knows_the_keys(pair: Cluster) -> None:
    """Without them a look from outside would find a device that nobody wants."""
    machine = pair.machines[0]
    machine.look()
    directory = machine.engine.database.directory
    store = f"sqlite:{Path(directory).parent}/store.db"
    found = machine.within(lambda _: preview(machine.name, directory, store))
    assert (found.ops, found.refusals, found.trouble) == ((), (), "")


def test_keys_are_rotated_without_loss(pair: Cluster) -> None:
    """Another port: devices with new keys stand beside the old ones until both have met."""
    before = [device(machine).device for machine in pair.machines]
    assert not readable(change(pair, {"transport": "wireguard", "wireguard": {"port": 51821}}))
    after = [device(machine).device for machine in pair.machines]
    assert all(old.public_key != new.public_key for old, new in zip(before, after, strict=True))
    assert {one.link for one in after} == {device_name(Way("wireguard", port=51821, underlay=4))}
    for machine in pair.machines:
        (file,) = Path(machine.engine.database.directory).rglob("*.key")
        assert "51821" in file.name


OTHER = {"port": 51821, "underlay": "ipv6"}
CLEAR = {"directWithinSubnet": True, "allowPlaintext": True}


@pytest.mark.parametrize(
    ("spec", "plain"),
    [
        ({"transport": "vxlan"}, True),
        ({"transport": "wireguard"}, False),
        ({"transport": "wireguard", "wireguard": OTHER}, False),
        ({"transport": "wireguard", "wireguard": OTHER | CLEAR}, True),
        ({"transport": "wireguard", "wireguard": OTHER}, False),
    ],
    ids=["to vxlan", "from vxlan", "over IPv6", "neighbours in the clear, as allowed", "encrypted again"],
)
def test_a_change_of_transport_loses_nothing(pair: Cluster, spec: dict[str, Any], plain: bool) -> None:
    """And then pods' packets are readable on the wire, or aren't any more."""
    frames = change(pair, spec)
    assert len(devices(pair.machines[0])) == (spec["transport"] == "wireguard")
    assert bool(readable(frames[-LAST:])) == plain

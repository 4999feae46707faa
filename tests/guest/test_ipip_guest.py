"""IPIP on a kernel that has it: two nodes as planned reach each other, strangers do not; repair."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator

import pytest

from podway.delta.differ import diff
from podway.kernel import namespaces
from podway.kernel.facade import Kernel
from podway.model.objects import Address, Link, Op, Peer
from podway.model.resources import (
    Block,
    BlockSpec,
    IpipSpec,
    Network,
    NetworkSpec,
    Node,
    NodeFacts,
    NodeSpec,
    Pool,
    Snapshot,
    Uplink,
)
from podway.plan.path import Chosen, PathKey
from podway.plan.planner import Planner
from podway.plan.transport.ipip import device_name
from podway.plan.way import Way

pytestmark = pytest.mark.guest
DEVICES = [device_name(Way("ipip", underlay=family)) for family in (4, 6)]
NODES = {"a": ("192.0.2.1/24", "2001:db8::1/64"), "b": ("192.0.2.2/24", "2001:db8::2/64")}
BLOCKS = {"10.1.0.64/26": "a", "fd00:1:0:1::/122": "a", "10.1.0.128/26": "b", "fd00:1:0:2::/122": "b"}
FAR = {4: "10.1.0.128", 6: "fd00:1:0:2::"}  # b's end of the tunnel
SPEC = NetworkSpec(
    attach="routed",
    transport="ipip",
    pools=(Pool(cidr="10.1.0.0/16"), Pool(cidr="fd00:1::/48")),
    ipip=IpipSpec(direct_within_subnet=True),
)


class Machine:
    """A node in a namespace of its own: its planner, its kernel."""

    def __init__(self, name: str, namespace: int) -> None:
        self.namespace = namespace
        uplink = Uplink(name="up0", mtu=1500, addresses=NODES[name])
        self.planner = Planner(NodeFacts(name=name, uplinks=(uplink,), addresses=NODES[name]))
        nodes = {one: Node(name=one, spec=NodeSpec(addresses=own)) for one, own in NODES.items()}
        blocks = {
            cidr: Block(cidr=cidr, spec=BlockSpec(network="net", node=owner, attach="routed"))
            for cidr, owner in BLOCKS.items()
        }
        network = Network(name="net", spec=SPEC)
        self.planner.update_snapshot(
            Snapshot(networks={"net": network}, nodes=nodes, blocks=blocks, synced=True)
        )

    def reconcile(self) -> int:
        """How many operations it took until nothing was to be done."""
        with namespaces.entered(self.namespace):
            kernel = Kernel()
            try:
                for count in range(4):
                    wanted = self.planner.desired
                    actual = kernel.observe(sysctls=[key[1] for key in wanted if key[0] == "sysctl"])
                    found = diff(wanted, actual)
                    assert not found.refusals, found.refusals
                    if not found.ops:
                        return count
                    failed = [one for one in kernel.apply(found.ops) if one.errno]
                    assert not failed, failed
            finally:
                kernel.close()
        raise AssertionError(f"never ends: {found.ops}")

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        with namespaces.entered(self.namespace):
            return subprocess.run(words, capture_output=True, text=True)


@pytest.fixture
def machines() -> Iterator[tuple[Machine, Machine]]:
    """Two nodes on one cable, as planned."""
    own, other = namespaces.create(), namespaces.create()
    try:
        with namespaces.entered(own):
            kernel = Kernel()
            link = Link(name="up0", kind="veth", peer=Peer(name="up0", namespace="other"))
            kernel.apply([Op(link, None)], {"other": other})
            kernel.close()
        made = Machine("a", own), Machine("b", other)
        for machine, addresses in zip(made, NODES.values(), strict=True):
            with namespaces.entered(machine.namespace):
                kernel = Kernel()
                ops = [Op(Link(name="lo", kind=""), Link(name="lo", kind="", up=False))]
                ops += [Op(Link(name="up0", kind="veth"), Link(name="up0", kind="veth", up=False))]
                ops += [Op(Address(link="up0", address=one, nodad=True), None) for one in addresses]
                kernel.apply(ops)
                kernel.close()
            machine.reconcile()
        yield made
    finally:
        os.close(own)
        os.close(other)


def reaches(one: Machine, family: int, size: int = 56) -> bool:
    words = ("ping", f"-{family}", "-M", "do", "-s", str(size), "-c", "1", "-W", "5", FAR[family])
    return one.run(*words).returncode == 0


def test_both_families_and_a_full_packet(machines: tuple[Machine, Machine]) -> None:
    """Full: an uplink's 1500 bytes less the outer header, less those of IP and ICMP."""
    a, _ = machines
    for family, full in ((4, 1500 - 20 - 28), (6, 1500 - 40 - 48)):
        assert reaches(a, family) and reaches(a, family, full) and not reaches(a, family, full + 1)
    routes = a.run("ip", "route", "show", "proto", "112").stdout
    assert f"10.1.0.128/26 via 192.0.2.2 dev {DEVICES[0]} onlink" in routes, routes
    routes = a.run("ip", "-6", "route", "show", "proto", "112").stdout
    assert "encap ip6 id 0 src :: dst 2001:db8::2 hoplimit 64" in routes, routes
    shown = a.run("ip", "-d", "link", "show", DEVICES[0]).stdout
    assert "local 192.0.2.1 ttl inherit nopmtudisc" in shown, shown


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("damage", ["link del {}", "link set {} down", "link set {} mtu 1300"])
def test_damage_is_repaired(machines: tuple[Machine, Machine], device: str, damage: str) -> None:
    """And then an empty diff: what stands is what is wanted."""
    a, _ = machines
    assert a.run("ip", *damage.format(device).split()).returncode == 0
    assert a.reconcile() > 0
    assert reaches(a, 4) and reaches(a, 6)


def test_a_neighbour_is_sent_directly_and_by_the_tunnel_again(machines: tuple[Machine, Machine]) -> None:
    """Routes move from the tunnel's device to the uplink and back in place, in both families."""
    a, _ = machines
    for choice, device in (("direct", "up0"), ("tunnel", "pwi")):
        a.planner.update_paths(
            {PathKey("net", "b", family): Chosen(choice, "") for family in (4, 6)}  # type: ignore[arg-type]
        )
        a.reconcile()
        for family in (4, 6):
            assert f"dev {device}" in a.run("ip", f"-{family}", "route", "get", FAR[family]).stdout
            assert reaches(a, family)


@pytest.mark.parametrize(("family", "protocol"), [(4, 4), (6, 41)])
def test_only_nodes_may_send_it(machines: tuple[Machine, Machine], family: int, protocol: int) -> None:
    """From an address that is no node's it is dropped and counted; from the node's it isn't."""
    a, b = machines
    stranger, node = ("192.0.2.9", "192.0.2.2") if family == 4 else ("2001:db8::9", "2001:db8::2")
    a.run("ip", "address", "add", f"{stranger}/{24 if family == 4 else 64}", "dev", "up0", "nodad")
    for source, drops in ((NODES["a"][family == 6].partition("/")[0], 0), (stranger, 1)):
        with namespaces.entered(a.namespace):
            kind = socket.AF_INET if family == 4 else socket.AF_INET6
            with socket.socket(kind, socket.SOCK_RAW, protocol) as sender:
                sender.bind((source, 0))
                sender.sendto(bytes(40), (node, 0))
        rules = b.run("nft", "list", "chain", "inet", "podway", "tunnels").stdout
        found = [line for line in rules.splitlines() if f"@tunnels{family}" in line]
        assert len(found) == 1 and f"counter packets {drops} " in found[0], rules

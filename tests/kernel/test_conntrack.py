"""Which flows are forgotten for a published UDP port: those to it, and no other."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterator

import pytest

from podway.kernel import conntrack
from podway.kernel.netlink import wire
from podway.kernel.netlink.socket import NetlinkSocket
from podway.kernel.nfnetlink.nftwire import HEADER
from podway.kernel.nftables import NETLINK_NETFILTER

pytestmark = pytest.mark.kernel

WAYS = [conntrack.forget_udp, conntrack.look_through]
TRACK = "table inet t { chain c { type filter hook input priority 0; ct state new accept; }; }"
Flow = tuple[str, int]


@pytest.fixture
def netlink(in_namespace: int) -> Iterator[NetlinkSocket]:
    """Into a namespace that tracks flows."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["nft", TRACK], check=True)
    opened = NetlinkSocket(NETLINK_NETFILTER)
    yield opened
    opened.close()


def send(address: str, *ports: int) -> None:
    """A datagram to each, from a socket each."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for port in ports:
        with socket.socket(family, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"?", (address, port))


def flows(netlink: NetlinkSocket) -> set[Flow]:
    """Where the tracked UDP flows were sent to."""
    found = set()
    for message in netlink.dump(wire.message(1 << 8 | 1, 0, HEADER.pack(socket.AF_UNSPEC, 0, 0))):
        original = wire.attributes(wire.attributes(message.payload, HEADER.size)[1])
        ip, protocol = wire.attributes(original[1]), wire.attributes(original[2])
        address = wire.ip_text(ip[4] if message.payload[0] == socket.AF_INET6 else ip[2])
        if protocol[1] == b"\x11":
            found.add((address, int.from_bytes(protocol[3], "big")))
    return found


@pytest.mark.parametrize("forget", WAYS)
def test_flows_to_the_port_are_forgotten_and_no_others(
    netlink: NetlinkSocket, forget: Callable[[NetlinkSocket, conntrack.Ports], None]
) -> None:
    """Of both families, whichever way the kernel is asked."""
    for address in ("127.0.0.1", "::1"):
        send(address, 53, 5353)
    forget(netlink, [("", 53)])
    assert flows(netlink) == {("127.0.0.1", 5353), ("::1", 5353)}


@pytest.mark.parametrize("forget", WAYS)
def test_a_port_of_one_address_is_that_one_alone(
    netlink: NetlinkSocket, forget: Callable[[NetlinkSocket, conntrack.Ports], None]
) -> None:
    """A port that is published on 127.0.0.1 says nothing of flows to 127.0.0.2."""
    send("127.0.0.1", 53, 54)
    send("127.0.0.2", 53)
    send("::1", 53)
    forget(netlink, [("127.0.0.1", 53), ("::1", 54)])
    assert flows(netlink) == {("127.0.0.1", 54), ("127.0.0.2", 53), ("::1", 53)}


def test_many_ports_are_forgotten_together(netlink: NetlinkSocket) -> None:
    """More than are worth a question each."""
    send("127.0.0.1", *range(1000, 1030))
    conntrack.forget_udp(netlink, [("", port) for port in range(1000, 1029)])
    assert flows(netlink) == {("127.0.0.1", 1029)}

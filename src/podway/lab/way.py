"""One packet's way from pod to pod, as every link on it saw it. Runs inside the lab.

Packet sockets in all namespaces of the way note an ICMP echo request with a number of our own: on one
clock, with the Ethernet and IP headers that it had there. IPv6 where the receiver has no IPv4.

Run as ``python -m podway.lab.way NAME DIRECTORY FROM TO``; writes the sightings as JSON.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import sys
import time
from pathlib import Path

import msgspec

from podway.kernel import namespaces
from podway.lab import packet
from podway.lab.place import NAMESPACES, Place
from podway.lab.probe import survey
from podway.lab.station import FAMILY

ETH_P_ALL = 0x0003  # linux/if_ether.h; only this shows what a link sends
SO_TIMESTAMPNS = 35  # asm-generic/socket.h
ETHERNET = frozenset({1, 772})  # ARPHRD_ETHER, ARPHRD_LOOPBACK: linux/if_arp.h
TIMESPEC = struct.Struct("@qq")
HEADERS = {4: 14 + 20, 6: 14 + 40}  # bytes of Ethernet and IP before the echo request
QUIET = 0.1  # seconds without a sighting end the watch
PATIENCE = 2.0
SEGMENTS = ""  # the lab's own namespace, where the bridges are


class Sighting(msgspec.Struct, frozen=True, kw_only=True):
    """``at``: ns since the first sighting. ``outgoing``: the link sent it, else it came in there.

    ``outer``: what was around it, "" = nothing; ``size``: bytes with all headers, Ethernet's too. All else is
    of the echo request itself; MACs are "" where it has no Ethernet header of its own."""

    at: int
    namespace: str
    link: str
    outgoing: bool
    source_mac: str
    target_mac: str
    source: str
    target: str
    ttl: int
    outer: str
    size: int


def watch(namespace: str) -> socket.socket:
    """A packet socket that sees all links of a namespace, with the time."""
    path = str(NAMESPACES / namespace) if namespace else namespaces.OWN
    fd = namespaces.open_namespace(path)
    try:
        with namespaces.entered(fd):
            kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK
            made = socket.socket(socket.AF_PACKET, kind, socket.htons(ETH_P_ALL))
        made.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    finally:
        os.close(fd)
    return made


def follow(sender: str, target: str, places: list[str]) -> list[Sighting]:
    """Send one echo request from the namespace ``sender``; in order of time, where it was seen."""
    nonce = os.urandom(4)
    watched = {watch(place): place for place in places}
    found: list[Sighting] = []
    try:
        _send(sender, target, nonce)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            ready, _, _ = select.select(list(watched), [], [], QUIET)
            if not ready and found:
                break
            for one in ready:
                found += _sightings(one, watched[one], packet.MAGIC + nonce)
    finally:
        for one in watched:
            one.close()
    found.sort(key=lambda sighting: sighting.at)
    first = found[0].at if found else 0
    return [msgspec.structs.replace(one, at=one.at - first) for one in found]


def _send(sender: str, target: str, nonce: bytes) -> None:
    family, echo = (6, socket.IPPROTO_ICMPV6) if ":" in target else (4, socket.IPPROTO_ICMP)
    fd = namespaces.open_namespace(str(NAMESPACES / sender))
    try:
        with namespaces.entered(fd):
            raw = socket.socket(FAMILY[family], socket.SOCK_RAW, echo)
    finally:
        os.close(fd)
    with raw:
        raw.sendto(packet.echo(family, packet.payload(nonce, packet.QUESTION, 0)), (target, 0))


def _sightings(one: socket.socket, namespace: str, mark: bytes) -> list[Sighting]:
    """What waits in a socket, as far as it is our echo request."""
    found: list[Sighting] = []
    while True:
        try:
            frame, ancillary, _, address = one.recvmsg(2048, 64)
        except BlockingIOError:
            return found
        size = len(frame)
        outer, frame = packet.peel(frame if address[3] in ETHERNET else packet.framed(frame))
        family = packet.IP.get(frame[12:14])
        if family is None or mark not in frame or frame[HEADERS[family]] != packet.ECHO[family]:
            continue
        seconds, nanoseconds = TIMESPEC.unpack(ancillary[0][2])
        macs = not frame.startswith(packet.NO_ADDRESSES)
        ends = frame[26:34] if family == 4 else frame[22:54]
        found.append(
            Sighting(
                at=seconds * 1_000_000_000 + nanoseconds,
                namespace=namespace,
                link=address[0],
                outgoing=address[2] == socket.PACKET_OUTGOING,
                target_mac=frame[0:6].hex(":") if macs else "",
                source_mac=frame[6:12].hex(":") if macs else "",
                source=socket.inet_ntop(FAMILY[family], ends[: len(ends) // 2]),
                target=socket.inet_ntop(FAMILY[family], ends[len(ends) // 2 :]),
                ttl=frame[22] if family == 4 else frame[21],
                outer=outer,
                size=size,
            )
        )


def main() -> None:
    """See the module."""
    name, directory, sender, receiver = sys.argv[1:]
    topology = Place(name, Path(directory)).saved().topology
    spots = {spot.name: spot for spot in survey(topology)}
    target = spots[receiver].target(4) or spots[receiver].target(6)
    places = dict.fromkeys((sender, spots[sender].node, SEGMENTS, spots[receiver].node, receiver))
    follow(sender, target, list(places))  # the first asks for addresses on every segment
    sightings = follow(sender, target, list(places))
    sys.stdout.buffer.write(msgspec.json.encode(sightings))


if __name__ == "__main__":
    main()

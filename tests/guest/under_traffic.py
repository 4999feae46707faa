"""A change of two nodes' network while their pods talk, and what went over the wire meanwhile."""

from __future__ import annotations

import socket
import time
from typing import Any

from streams import Traffic
from streams import running as traffic
from two_nodes import Cluster

from podway.kernel import namespaces

RATE, DRAIN = 20, 30.0  # datagrams a second and flow, seconds: the guest is emulated
SIZE = 200
SO_RCVBUFFORCE = 33
ETH_P_ALL = 3  # linux/if_ether.h


def listener(link: str) -> socket.socket:
    """A packet socket on one link. With a protocol it would hear all of them until it is bound."""
    ear = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    ear.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
    ear.bind((link, ETH_P_ALL))
    return ear


def heard(ear: socket.socket) -> list[bytes]:
    frames = []
    ear.setblocking(False)
    while True:
        try:
            frames.append(ear.recv(2048))
        except BlockingIOError:
            return frames


def change(pair: Cluster, spec: dict[str, Any]) -> list[bytes]:
    """Under traffic, of which nothing may be lost; the frames on the wire meanwhile."""
    with namespaces.entered(pair.machines[0].namespace):
        ear = listener("up0")
    with ear:
        with traffic(pair.pods(), RATE, SIZE, DRAIN) as seen:
            time.sleep(1)
            pair.apply(spec)
            pair.settle()
            time.sleep(1)
        verify(seen)
        return heard(ear)


def verify(seen: Traffic) -> None:
    assert len(seen.flows) == 4  # both ways, both families
    seen.verify(5)

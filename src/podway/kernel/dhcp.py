"""Questions of a DHCP client inside a pod, and the answers: a packet socket that lives no longer than they.

It sends before the interface has an address, and hears what is sent to an address that it hasn't yet.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator

from podway.ipam import dhcp
from podway.ipam.dhcp import Message
from podway.kernel import namespaces

ETH_P_IP = 0x0800
BROADCAST_MAC = "ff:ff:ff:ff:ff:ff"
_OUTGOING = 4  # PACKET_OUTGOING
_LARGEST = 1 << 16


class Client:
    """At the interface ``ifname`` of the pod whose namespace ``fd`` is. Raises OSError without it."""

    def __init__(self, fd: int, ifname: str) -> None:
        self._ifname = ifname
        with namespaces.entered(fd):
            self._packets = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
            self._port = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._packets.bind((ifname, ETH_P_IP))
            with contextlib.suppress(OSError):  # who has the port, answers nothing either
                self._port.bind(("", dhcp.CLIENT_PORT))  # else the kernel says that nobody is there
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the pod."""
        self._packets.close()
        self._port.close()

    def send(
        self, message: Message, target: str = dhcp.EVERYBODY, mac: str = BROADCAST_MAC, source: str = ""
    ) -> None:
        """Send to one server, or to all. Raises OSError: the interface is down, or gone."""
        packet = dhcp.datagram(dhcp.encode(message), source or message.client, target)
        self._packets.sendto(packet, (self._ifname, ETH_P_IP, 0, 0, bytes.fromhex(mac.replace(":", ""))))

    def ask(
        self,
        message: Message,
        wanted: Callable[[Message], bool],
        patience: float,
        target: str = dhcp.EVERYBODY,
        mac: str = BROADCAST_MAC,
    ) -> tuple[Message, str] | None:
        """The first ``wanted`` answer and the MAC that it came from; None after ``patience`` seconds."""
        self.send(message, target, mac)
        for answer, sender in self._heard(patience):
            if (answer.xid, answer.mac) == (message.xid, message.mac) and wanted(answer):
                return answer, sender
        return None

    def _heard(self, patience: float) -> Iterator[tuple[Message, str]]:
        deadline = time.monotonic() + patience
        while (left := deadline - time.monotonic()) > 0:
            self._packets.settimeout(left)
            try:
                packet, address = self._packets.recvfrom(_LARGEST)
            except TimeoutError:
                return
            found = dhcp.decode(dhcp.payload(packet)) if address[2] != _OUTGOING else None
            if found is not None:
                yield found, address[4].hex(":")

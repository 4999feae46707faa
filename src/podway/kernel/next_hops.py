"""What the kernel comes to know of neighbours on a few links: who answers at an address, or nobody."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable

from podway.kernel.netlink import neighbour
from podway.kernel.netlink.socket import NetlinkSocket
from podway.model.objects import Neighbour

_NEIGHBOURS = 3  # RTNLGRP_NEIGH


class NextHops:
    """Listens in the calling thread's network namespace, to no link before ``watch``."""

    def __init__(self) -> None:
        self._socket = NetlinkSocket(0, groups=(_NEIGHBOURS,))
        self._names: dict[int, str] = {}
        self._socket.hear_settled_neighbours_of(())

    def fileno(self) -> int:
        """Readable when there is news."""
        return self._socket.fileno()

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()

    def watch(self, links: Iterable[str]) -> None:
        """Listen to these links, as far as they are there, and to no others."""
        found: dict[int, str] = {}
        for name in links:
            try:
                found[socket.if_nametoindex(name)] = name
            except OSError:
                continue
        if found != self._names:
            self._names = found
            self._socket.hear_settled_neighbours_of(found)

    def read(self) -> list[tuple[str, str, str]]:
        """(link, address, MAC), the MAC "" when nobody answered. What is lost would only have been sooner."""
        news: list[tuple[str, str, str]] = []
        try:
            for message in self._socket.pending():
                value = neighbour.decode(message.payload, self._names)
                if isinstance(value, Neighbour) and not value.proxy:
                    failed = neighbour.has_failed(message.payload)
                    news.append((value.link, value.address, "" if failed else value.mac))
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
        return news

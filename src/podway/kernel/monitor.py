"""Multicast events of rtnetlink: what changed in this namespace, and by whose netlink port."""

from __future__ import annotations

import errno

import msgspec

from podway.kernel.netlink import address, link, neighbour, netconf, route, rule, traffic, wire
from podway.kernel.netlink.decoding import decode
from podway.kernel.netlink.socket import NetlinkSocket
from podway.model.objects import ALIAS_PREFIX, AnyObject, Key, Link

# RTNLGRP_*: link, neighbour, tc, v4 address, v4 route, v4 rule, v6 address, v6 route, v6 rule, v4 and v6
# settings
GROUPS = (1, 3, 4, 5, 7, 8, 9, 11, 19, 24, 25)

#: message type → (kind, deleted)
KINDS = {
    link.NEWLINK: ("link", False),
    link.DELLINK: ("link", True),
    address.NEWADDR: ("address", False),
    address.DELADDR: ("address", True),
    route.NEWROUTE: ("route", False),
    route.DELROUTE: ("route", True),
    rule.NEWRULE: ("rule", False),
    rule.DELRULE: ("rule", True),
    neighbour.NEWNEIGH: ("neighbour", False),
    neighbour.DELNEIGH: ("neighbour", True),
    traffic.NEWQDISC: ("qdisc", False),
    traffic.DELQDISC: ("qdisc", True),
    traffic.NEWTFILTER: ("filter", False),
    traffic.DELTFILTER: ("filter", True),
}


class Event(msgspec.Struct, frozen=True):
    """One change. ``overflow``: the kernel dropped events; everything may have changed."""

    kind: str = ""
    key: Key = ()
    deleted: bool = False
    object: AnyObject | None = None
    portid: int = 0
    overflow: bool = False


class Monitor:
    """Listens in the calling thread's network namespace from its making on."""

    def __init__(self) -> None:
        self._socket = NetlinkSocket(0, groups=GROUPS)
        self._names: dict[int, str] = {}
        self._tunnels: set[int] = set()
        self._socket.hear_neighbours_of(self._tunnels)
        asking = NetlinkSocket(0)
        try:
            for message in asking.dump(link.encode_dump()):
                self._learn(message.payload)
        finally:
            asking.close()

    def fileno(self) -> int:
        """Readable when there are events."""
        return self._socket.fileno()

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()

    def _learn(self, payload: bytes) -> Link:
        one = link.decode(payload, self._names)
        index = link.index_of(payload)
        self._names[index] = one.name
        is_tunnel = one.vxlan is not None and (one.alias or "").startswith(ALIAS_PREFIX)
        self._hear(index, is_tunnel)
        return one

    def _hear(self, index: int, wanted: bool) -> None:
        if wanted != (index in self._tunnels):
            self._tunnels ^= {index}
            self._socket.hear_neighbours_of(self._tunnels)

    def read(self) -> list[Event]:
        """What has happened since the last call, in order; never waits."""
        events: list[Event] = []
        try:
            for message in self._socket.pending():
                if message.type == netconf.NEWNETCONF:
                    changed = netconf.decode(message.payload, self._names)
                    events += [Event("sysctl", one.key, False, one, message.portid) for one in changed]
                elif (event := self._event(message)) is not None:
                    events.append(event)
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            events.append(Event(overflow=True))
        return events

    def _event(self, message: wire.Message) -> Event | None:
        known = KINDS.get(message.type)
        if known is None:
            return None
        kind, deleted = known
        value: AnyObject | None
        if kind == "link":
            # an AF_BRIDGE message is about the port, not the link: another one follows or precedes
            if message.payload[0] == neighbour.BRIDGE:
                return None
            value = self._learn(message.payload)
        elif kind == "neighbour":
            # one that lost its permanence is as good as gone
            deleted = deleted or not neighbour.is_permanent(message.payload)
            value = neighbour.decode(message.payload, self._names)
        else:
            value = decode(kind, message.payload, self._names)
        if value is None:
            return None
        if deleted and isinstance(value, Link):
            index = link.index_of(message.payload)
            self._names.pop(index, None)
            self._hear(index, False)
        return Event(value.kind_name, value.key, deleted, value, message.portid)

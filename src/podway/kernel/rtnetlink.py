"""Kernel objects over rtnetlink: dumps to values, operations to messages, in one namespace.

Names are turned into ifindexes here and nowhere else. A link made by an earlier operation of the same
batch has an index that was chosen here, so nothing has to be looked up in between.
"""

from __future__ import annotations

import errno
import fcntl
import functools
import random
import socket
import struct
from collections.abc import Callable, Collection, Container, Mapping, Sequence

import msgspec

from podway.delta.differ import is_remade
from podway.kernel.netlink import address, link, neighbour, route, rule, traffic, wire
from podway.kernel.netlink.decoding import decode
from podway.kernel.netlink.socket import NetlinkSocket
from podway.model.objects import (
    Actual,
    Address,
    AnyObject,
    Fdb,
    Filter,
    Key,
    Link,
    Neighbour,
    Op,
    OpResult,
    Qdisc,
    Route,
    Rule,
    TrafficClass,
)

# Above what the kernel hands out by itself for a long time, so that a choice is almost never taken.
FIRST_INDEX, LAST_INDEX = 1 << 24, 1 << 30
FAMILIES = (socket.AF_INET, socket.AF_INET6)
LINK_OF = struct.Struct("=4xi")  # the ifindex in struct ifaddrmsg and struct tcmsg
GONE = frozenset({errno.ENOENT, errno.ESRCH, errno.ENODEV, errno.EADDRNOTAVAIL})


class Rtnetlink:
    """A socket in the calling thread's network namespace, or in that of the descriptor ``namespace``."""

    def __init__(self, namespace: int | None = None) -> None:
        self._socket = NetlinkSocket(0, namespace)
        self._index: dict[str, int] = {"lo": 1}  # LOOPBACK_IFINDEX
        self._name: dict[int, str] = {1: "lo"}

    def close(self) -> None:
        """Let go of the socket, and with it of the namespace."""
        self._socket.close()

    @property
    def portid(self) -> int:
        """What events of changes made here carry as their sender."""
        return self._socket.portid

    # names ---------------------------------------------------------------------------------------

    def learn(self, name: str, index: int) -> None:
        """Tell the index of a link, so that it need not be asked for."""
        self._forget(name)  # another had that name
        self._index[name] = index
        self._name[index] = name

    def index(self, name: str) -> int:
        """The ifindex of a link. Raises OSError ENODEV."""
        found = self._index.get(name)
        if found is None:
            message = self._socket.ask(link.encode_get(name))
            if message is None:
                raise OSError(errno.ENODEV, f"no link {name}")
            found = link.index_of(message.payload)
            self.learn(name, found)
        return found

    def is_still(self, name: str) -> bool:
        """Whether the link that was last known by this name is there; waits for no lock, as a look would."""
        try:
            return socket.if_nametoindex(name) == self._index.get(name)
        except OSError:
            return False

    def _forget(self, name: str) -> None:
        self._name.pop(self._index.pop(name, 0), None)

    # looking -------------------------------------------------------------------------------------

    def get_link(self, name: str) -> Link | None:
        """One link by name."""
        message = self._socket.ask(link.encode_get(name))
        if message is None:
            self._forget(name)
            return None
        self.learn(name, link.index_of(message.payload))
        return link.decode(message.payload, self._name_of)

    def flags_of(self, name: str) -> Link | None:
        """A link as far as its flags tell of it: a quicker question than for all that the kernel knows."""
        try:
            found = fcntl.ioctl(self._socket.fileno(), link.GET_FLAGS, link.FLAGS_OF.pack(name.encode(), 0))
        except OSError as error:
            if error.errno == errno.ENODEV:
                return None
            raise
        return link.decode_flags(name, link.FLAGS_OF.unpack(found)[1])

    def peer_of(self, name: str) -> int:
        """The ifindex of a veth's other end, in whichever namespace that is; 0 when there is none."""
        message = self._socket.ask(link.encode_get(name))
        return link.decode_peer(message.payload) if message is not None else 0

    def _name_of(self, index: int) -> str:
        found = self._name.get(index)
        if found is None:
            self._refresh()
            found = self._name.get(index, "")
        return found

    def _refresh(self) -> list[wire.Message]:
        """Dump the links and learn all names."""
        messages = self._socket.dump(link.encode_dump())
        pairs = [link.decode_index(message.payload) for message in messages]
        self._name = dict(pairs)
        self._index = {name: index for index, name in pairs}
        return messages

    def dump(
        self,
        kind: str,
        *,
        protocol: int = 0,
        to: Container[str] | None = None,
        link: str = "",
        parent: str = "",
        families: Collection[int] = FAMILIES,
        local: bool = True,
        refresh: bool = True,
    ) -> Actual:
        """All objects of a kind: link, address, route, rule, neighbour, fdb, qdisc, class or filter.

        Routes are of ``families``, ``protocol`` and, unless it is None, ``to`` where they lead; classes and
        filters are of one ``link``, neighbours and forwarding entries of one or (empty) of all. ``local``
        False: without the routes of the kernel's own table. ``refresh`` False: links have the names that they
        had at the last dump of them.
        """
        if kind == "link":
            return self._links()
        if refresh and kind != "rule":
            self._refresh()
        found: Actual = {}
        for message in self._messages(kind, protocol, to, link, parent, families):
            if not local and route.is_local(message.payload):
                continue
            value = self._decode(kind, message.payload)
            if value is not None and value.kind_name == kind:
                if isinstance(value, Route) and protocol not in (0, value.protocol):
                    continue
                found.setdefault(value.key, value)  # of two routes the kernel takes the first
        return found

    def is_running(self, name: str) -> bool:
        """Whether a link sends; one that is gone does not.

        Since Linux 6.8 asking makes a link so whose other end has just come up (rtnl_getlink); otherwise the
        kernel's link watch does a little later, and until then all that is sent by it is dropped."""
        message = self._socket.ask(link.encode_get(name))
        return message is not None and link.is_running(message.payload)

    def on_links(self, kind: str, places: Collection[tuple[str, str]]) -> Actual:
        """The addresses, queueing disciplines or filters of some (link, parent; "" but for filters).

        The links are those that were last known by these names, what a filter redirects to too ("" for one
        unknown)."""
        known = {(self._index[name], parent) for name, parent in places if name in self._index}
        indexes = {index for index, _ in known}
        requests = {
            "address": lambda: [address.encode_dump(index) for index in indexes],
            # the kernel shows those of all links
            "qdisc": lambda: [traffic.encode_dump(traffic.GETQDISC)] if known else [],
            "filter": lambda: [traffic.encode_dump(traffic.GETTFILTER, *one) for one in known],
        }
        payloads = (message.payload for one in requests[kind]() for message in self._socket.dump(one))
        values = (self._decode(kind, one) for one in payloads if LINK_OF.unpack_from(one)[0] in indexes)
        return {value.key: value for value in values if value is not None}

    def _links(self) -> Actual:
        messages = self._refresh()
        values = [link.decode(message.payload, self._name) for message in messages]
        if any(value.bridge is not None and value.bridge.vlan_filtering for value in values):
            values = self._with_vlans(values)
        return {value.key: value for value in values}

    def _with_vlans(self, links: list[Link]) -> list[Link]:
        """They come by a dump of their own."""
        messages = self._socket.dump(link.encode_vlan_dump())
        pairs = [link.decode_vlans(message.payload) for message in messages]
        found = {self._name.get(index, ""): vlans for index, vlans in pairs}
        return [
            msgspec.structs.replace(
                one, port=msgspec.structs.replace(one.port, vlans=found.get(one.name, ()))
            )
            if one.port is not None
            else one
            for one in links
        ]

    def _messages(
        self,
        kind: str,
        protocol: int,
        to: Container[str] | None,
        of: str,
        parent: str,
        families: Collection[int],
    ) -> list[wire.Message]:
        requests: dict[str, Callable[[], list[bytes]]] = {
            "address": lambda: [address.encode_dump()],
            "route": lambda: [route.encode_dump(family, protocol) for family in families],
            "rule": lambda: [rule.encode_dump(family) for family in FAMILIES],
            "neighbour": lambda: [
                neighbour.encode_dump(f, proxy, self.index(of) if of else 0)
                for f in FAMILIES
                for proxy in (False, True)
            ],
            "fdb": lambda: [neighbour.encode_dump(neighbour.BRIDGE, index=self.index(of) if of else 0)],
            "qdisc": lambda: [traffic.encode_dump(traffic.GETQDISC)],
            "class": lambda: [traffic.encode_dump(traffic.GETTCLASS, self.index(of))],
            "filter": lambda: [traffic.encode_dump(traffic.GETTFILTER, self.index(of), parent)],
        }
        keep = None if to is None else functools.partial(self._leads, to)
        return [message for request in requests[kind]() for message in self._socket.dump(request, keep)]

    def _leads(self, to: Container[str], message: wire.Message) -> bool:
        found = self._decode("route", message.payload)
        return isinstance(found, Route) and found.dst in to

    def _decode(self, kind: str, payload: bytes) -> AnyObject | None:
        return decode(kind, payload, self._name)

    # changing ------------------------------------------------------------------------------------

    def apply(self, ops: Sequence[Op], namespaces: Mapping[str, int] | None = None) -> list[OpResult]:
        """Carry out in order, batched; one result per operation.

        A failure doesn't stop later ones that don't need it. Deleting what is gone succeeds.
        ``namespaces`` maps a Peer's namespace to an open descriptor.
        """
        pending: list[tuple[int, bytes]] = []
        results: list[OpResult | None] = [None] * len(ops)
        self._other_ends: dict[Key, int] = {}
        queues = {op.want.link: at for at, op in enumerate(ops) if isinstance(op.want, Qdisc)}
        later: dict[int, list[tuple[int, bytes]]] = {}
        for number, op in enumerate(ops):
            try:
                requests = [(number, request) for request in self._encode(op, namespaces or {})]
                if isinstance(op.want, Link) and op.have is None and queues.get(op.want.name, -1) > number:
                    # on a link that is up already, queueing waits for all processors (sch_api.c qdisc_graft)
                    requests, later[queues[op.want.name]] = requests[:1], requests[1:]
                pending += requests
            except (OSError, KeyError) as error:
                results[number] = _unencodable(op, error)
            pending += later.pop(number, [])
        failed = self._socket.batch([request for _, request in pending])
        for position, (code, words) in failed.items():
            number = pending[position][0]
            if results[number] is None:
                results[number] = self._failure(ops[number], pending[position][1], code, words)
        for op in ops:
            if op.want is None and isinstance(op.have, Link):
                self._forget(op.have.name)
        return [
            result if result is not None else OpResult(op, other_end=self._other_ends.get(op.key, 0))
            for op, result in zip(ops, results, strict=True)
        ]

    def _failure(self, op: Op, request: bytes, code: int, words: str) -> OpResult:
        if code in GONE and (op.want is None or route.is_delete(request)):
            return OpResult(op)
        if route.is_append(request):
            return self._put_back(op, code, words)
        if isinstance(op.want, Link) and op.have is None:
            self._forget(op.want.name)
        return OpResult(op, code, words)

    def _put_back(self, op: Op, code: int, words: str) -> OpResult:
        """After an append that failed, when what it was to replace is gone. EEXIST: what is wanted stood
        there too, and may have been what went."""
        back = op.want if code == errno.EEXIST else op.have
        assert isinstance(back, Route)
        try:
            self._one(route.encode(back, self._index))
        except OSError as error:
            words = f"{words}; putting it back: {error.strerror}"
            return OpResult(op, code, words)
        return OpResult(op) if back is op.want else OpResult(op, code, words)

    def _encode(self, op: Op, namespaces: Mapping[str, int]) -> list[bytes]:
        want, have = op.want, op.have
        subject = want if want is not None else have
        if isinstance(subject, Link):
            return self._encode_link(op, namespaces)
        if isinstance(subject, Route):
            return self._encode_route(subject, op)
        if isinstance(subject, Rule):
            gone = [rule.encode_delete(have)] if isinstance(have, Rule) else []
            return gone + ([rule.encode(want)] if isinstance(want, Rule) else [])
        assert isinstance(subject, Address | Neighbour | Fdb | Qdisc | TrafficClass | Filter)
        index = self.index(subject.link)
        if isinstance(subject, Filter):
            return self._encode_filter(op, index)
        encoder, remover = _CODECS[type(subject)]
        return [encoder(subject, index) if want is not None else remover(subject, index)]

    def _encode_route(self, subject: Route, op: Op) -> list[bytes]:
        """What replaces an IPv4 route goes behind it, and then it is deleted: a packet that is being routed
        just when the kernel replaces one finds neither (fib_table_lookup passes by what is fib_dead)."""
        device = {subject.dev: self.index(subject.dev)} if subject.dev else {}
        if op.want is None:
            return [route.encode_delete(subject, device)]
        if not isinstance(op.have, Route) or ":" in subject.dst or not self._may_stand(op.have.dev):
            return [route.encode(subject, device)]
        return [route.encode_append(subject, device), route.encode_delete(op.have, self._index)]

    def _may_stand(self, device: str) -> bool:
        """Whether there is such a link, so that a route by it can be told from others."""
        try:
            return not device or bool(self.index(device))
        except OSError:
            return False

    def _encode_filter(self, op: Op, index: int) -> list[bytes]:
        gone = [traffic.encode_filter_delete(op.have, index)] if isinstance(op.have, Filter) else []
        if not isinstance(op.want, Filter):
            return gone
        return [*gone, traffic.encode_filter(op.want, index, self.index(op.want.redirect))]

    def _encode_link(self, op: Op, namespaces: Mapping[str, int]) -> list[bytes]:
        want, have = op.want, op.have
        if want is None:
            assert isinstance(have, Link)
            return [link.encode_delete(self.index(have.name))]
        assert isinstance(want, Link)
        master = self.index(want.master) if want.master else 0
        if have is not None:
            assert isinstance(have, Link)
            if not is_remade(want, have):
                return link.encode_change(want, have, self.index(want.name), master)
            gone = [link.encode_delete(self.index(have.name))]
        else:
            gone = []
        own, other = random.randrange(FIRST_INDEX, LAST_INDEX), random.randrange(FIRST_INDEX, LAST_INDEX)
        peer_fd = None
        if want.peer is not None:
            self._other_ends[want.key] = other
            if want.peer.namespace:
                peer_fd = namespaces[want.peer.namespace]
            else:
                self.learn(want.peer.name, other)
        self.learn(want.name, own)
        return [
            *gone,
            link.encode_create(want, own, other, peer_fd, master),
            *link.encode_change(want, None, own, master),
        ]

    def make(self, value: Link, lower: str, namespace: int | None = None) -> None:
        """Make a link that is down, on the one called ``lower`` ("": on none), here or in ``namespace``.

        Raises OSError, ENODEV where there is no ``lower``."""
        self._one(link.encode_make(value, self.index(lower) if lower else 0, namespace))

    def rename(self, name: str, wanted: str, alias: str) -> None:
        """Give a link that is down another name, and an alias. Raises OSError."""
        self._one(link.encode_rename(self.index(name), wanted, alias))
        self._forget(name)

    def move(self, name: str, namespace: int, wanted: str, alias: str) -> None:
        """Move a link into another namespace under another name and with an alias. Raises OSError."""
        self._one(link.encode_move(self.index(name), namespace, wanted, alias))
        self._forget(name)

    def delete(self, name: str) -> None:
        """Delete a link; none being there is fine. Raises OSError."""
        try:
            self._one(link.encode_delete(self.index(name)))
        except OSError as error:
            if error.errno not in GONE:
                raise
        self._forget(name)

    def _one(self, request: bytes) -> None:
        for code, words in self._socket.batch([request]).values():
            raise OSError(code, words)

    def delete_group(self, group: int) -> None:
        """Delete all links of a group at once. Raises OSError; none being there is fine."""
        try:
            self._one(link.encode_delete_group(group))
        except OSError as error:
            if error.errno not in GONE:
                raise


_CODECS: dict[type, tuple[Callable[..., bytes], Callable[..., bytes]]] = {
    Address: (address.encode, address.encode_delete),
    Neighbour: (neighbour.encode, neighbour.encode_delete),
    Fdb: (neighbour.encode_fdb, neighbour.encode_fdb_delete),
    Qdisc: (traffic.encode_qdisc, traffic.encode_qdisc_delete),
    TrafficClass: (traffic.encode_class, traffic.encode_class_delete),
}


def _unencodable(op: Op, error: OSError | KeyError) -> OpResult:
    if op.want is None:
        return OpResult(op)  # its link is gone, and it with the link
    if isinstance(error, OSError):
        return OpResult(op, error.errno or errno.EINVAL, str(error.strerror))
    return OpResult(op, errno.ENODEV, f"no namespace {error}")

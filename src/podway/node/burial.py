"""What is left of pods that are gone: doomed links, their guards, addresses, flows of published ports.

The kernel takes tens of milliseconds for deleting links, one or fifty alike, and for looking through its
conntrack table. Both are collected and done off an answer's path, ``carry_out`` even on a thread of its
own: the kernel holds no lock meanwhile that an ADD would need.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from podway.kernel.facade import Kernel
from podway.model.dropin import Piece, Ports
from podway.model.objects import Key, Op
from podway.model.resources import Endpoint
from podway.node import hostlocal
from podway.node.book import AddressBook, bare
from podway.node.database import Database
from podway.node.faults import reach
from podway.plan.spoofing import is_guard

Occupant = Endpoint | Piece
Flow = tuple[str, int]  # (address or "", UDP port) that is published


class Burial:
    """``begin`` and ``finish`` run on the writer thread, ``carry_out`` between them on any one thread."""

    def __init__(self, database: Database, kernel: Kernel, book: AddressBook) -> None:
        self._database = database
        self._kernel = kernel
        self._book = book
        self._dying: dict[str, tuple[Occupant, tuple[Op, ...]]] = {}
        self._begun: dict[str, tuple[Occupant, tuple[Op, ...]]] = {}
        self._stale: set[Flow] = set()
        #: is told what a pod had that nobody else wants
        self.went: Callable[[Collection[Key]], object] = lambda keys: None

    @property
    def dying(self) -> bool:
        """Whether doomed links may still stand."""
        return bool(self._dying or self._begun)

    @property
    def due(self) -> bool:
        """Whether there is something to begin."""
        return bool(self._dying or self._stale)

    def doom(self, occupant: Occupant, removals: Collection[Op]) -> None:
        """Its links are in the doomed group; guards among ``removals``, and addresses, go after them."""
        self._dying[occupant.id] = (occupant, tuple(op for op in removals if is_guard(op.key)))
        self.went([op.key for op in removals])
        self.forget_flows(occupant)

    def forget_flows(self, occupant: Occupant) -> None:
        """Let UDP flows to its published ports find their new way."""
        publisher = occupant.want if isinstance(occupant, Piece) else occupant
        if isinstance(publisher, Endpoint | Ports):
            self._stale |= {
                (port.host_ip, port.host_port) for port in publisher.ports if port.protocol == "udp"
            }

    def occupies(self, id: str, namespace_id: str, addresses: Collection[str]) -> bool:
        """Whether what is left of a pod may be in the way: a link and rows of that id, an interface in that
        namespace, an address."""
        wanted = set(bare(addresses))
        return any(
            one.id == id or one.namespace_id == namespace_id or wanted & set(bare(one.addresses))
            for one in self._left()
        )

    def _left(self) -> list[Occupant]:
        return [occupant for occupant, _ in (*self._dying.values(), *self._begun.values())]

    def holders(self, directory: str) -> set[tuple[str, str]]:
        """(Container, interface) whose addresses of a host-local directory are given back at the burial."""
        pieces = [one for one in self._left() if isinstance(one, Piece) and one.reserved is not None]
        return {(p.container, p.ifname) for p in pieces if p.reserved and p.reserved.directory == directory}

    def begin(self) -> frozenset[Flow]:
        """Take up all that is due; returns the flows to forget."""
        self._begun |= self._dying
        self._dying = {}
        stale, self._stale = frozenset(self._stale), set()
        return stale

    def carry_out(self, stale: Collection[Flow]) -> None:
        """Delete the doomed links and forget the flows; nothing of this object is touched."""
        if stale:
            self._kernel.forget_udp(stale)
        self._kernel.delete_doomed()

    def finish(self, cooling: bool = True) -> None:
        """Take down the guards of what was begun and let the addresses cool down."""
        reach("delete.buried")
        begun, self._begun = self._begun, {}
        if not begun:
            return
        self._kernel.apply([op for _, guards in begun.values() for op in guards])
        until: dict[str, float] = {}
        pieces = [one for one, _ in begun.values() if isinstance(one, Piece)]
        endpoints = [one for one, _ in begun.values() if isinstance(one, Endpoint)]
        for endpoint in endpoints:
            until.update(self._book.release(endpoint, cools=cooling))
        if endpoints:
            self._database.finish_delete([one.id for one in endpoints], until)
        for piece in pieces:
            hostlocal.give_back(piece)
        if pieces:
            self._database.forget_pieces([one.id for one in pieces])
        reach("delete.finished")

    def make_room(self) -> None:
        """Links and addresses now, on the writer thread: an ADD waits for them, and not for flows."""
        stale = self.begin()
        self.carry_out(())
        self.finish()
        self._stale |= stale

    def complete(self, cooling: bool = True) -> None:
        """All of it now, on the writer thread."""
        if self.dying or self.due:
            self.carry_out(self.begin())
            self.finish(cooling)

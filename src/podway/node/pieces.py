"""The pieces of the drop-in plugins on one node: made, removed, checked.

The same order of steps as ``attachments``: journal, host's side, pod's side, ready; and for a removal:
journal, out of service, answer; links are deleted together at the burial. A crash between any two steps
leaves a row that the next DEL, GC or start finds.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Collection, Mapping

import msgspec

from podway.delta.differ import ordered
from podway.kernel.facade import Kernel
from podway.model.dropin import InPod, InVrf, Moved, Passed, Piece, Tuned, in_turn
from podway.model.errors import Conflict, Lost
from podway.model.gate import Passage
from podway.model.objects import Actual, AnyObject, Key, Link, Op, Sysctl
from podway.node import hostlocal, inside, takeover, wiring
from podway.node.burial import Burial
from podway.node.database import Database
from podway.node.faults import reach
from podway.node.ledger import remember
from podway.plan import dropin, passage
from podway.plan.dropin.foreign import Attached
from podway.plan.dropin.pod import moved_on
from podway.plan.dropin.told import Told, required
from podway.plan.planner import Planner


class Pieces:
    """All methods run on the writer thread."""

    def __init__(
        self, database: Database, kernel: Kernel, planner: Planner, burial: Burial, boot_id: str
    ) -> None:
        self._database = database
        self._kernel = kernel
        self._planner = planner
        self._boot_id = boot_id
        self.burial = burial

    @property
    def known(self) -> dict[str, Piece]:
        """By id, those being made or made."""
        return self._planner.inputs.pieces

    def of(self, configuration: str, plugin: str) -> list[Piece]:
        """All that one plugin made by one configuration, the last first."""
        made = reversed(self.known.values())
        return [p for p in made if (p.configuration, p.plugin) == (configuration, plugin)]

    def turns(self, series: str) -> list[Piece]:
        """What one plugin has made for one interface, each time that the chain names it."""
        ids = (in_turn(series, number) for number in itertools.count())
        return list(itertools.takewhile(bool, map(self.known.get, ids)))  # type: ignore[arg-type]

    def next_turn(self, piece: Piece) -> Piece:
        """As its plugin's next one in this chain. What stands in another namespace is no part of it."""
        before = self.turns(piece.series)
        if any(one.namespace_id != piece.namespace_id for one in before):
            return piece
        return msgspec.structs.replace(piece, turn=len(before))

    def maker_of(self, piece: Piece) -> Piece | None:
        """What the plugin before ``piece`` in its chain made: its interface. None where that isn't ours."""
        for plugin in ("bridge", "ptp"):
            made = self.known.get(f"{piece.container}/{piece.ifname}/{piece.configuration}/{plugin}")
            if made is not None and made.namespace_id == piece.namespace_id:
                return made
        return None

    def add(self, piece: Piece, namespace: int) -> Piece:
        """Make a piece. ``namespace``: an open descriptor of the pod's, -1 when it has no pod side.

        Raises Conflict when it is there already, and what ``wiring`` raises; nothing is left then."""
        reach("add.begin")
        piece = msgspec.structs.replace(piece, boot_id=self._boot_id)
        if piece.id in self.known:
            what = f"plugin {piece.plugin} has served interface {piece.ifname} of container {piece.container}"
            raise Conflict(f"{what} already", f"network {piece.configuration}", "send DEL first")
        if self.burial.occupies(piece.id, piece.namespace_id, piece.addresses):
            self.burial.make_room()
        enter(self._planner, self._database, piece, "adding")
        reach("add.journalled")
        try:
            fragment, who = ("piece", piece.id), f"container {piece.container}"
            wanted = self._planner.fragment(*fragment)
            passes = [Op(one, None) for one in wanted if isinstance(one, Passage)]
            remember(self._database, self._planner.desired, passes)
            pods = {piece.id: namespace}
            indexes = wiring.program_node(self._kernel, self._planner, fragment, who, pods)
            reach("add.wired")
            if namespace >= 0:
                self.program_inside(piece, namespace, indexes)
                veths = [one for one in wanted if isinstance(one, Link) and one.peer is not None]
                names = [name for veth in veths for name in (veth.name, veth.master) if name]
                self._kernel.until_they_send(names)
            reach("add.inside")
            self._database.piece_state(piece.id, "ready")
        except BaseException:
            piece = inside.by(piece, namespace)
            if isinstance(piece.want, Tuned):
                inside.revert(self._kernel, piece, piece.want)
            self._take_out(piece)
            self.burial.complete(cooling=False)
            raise
        self.burial.forget_flows(piece)
        reach("add.finished")
        return piece

    def program_inside(self, piece: Piece, namespace: int, indexes: Mapping[str, int] | None = None) -> None:
        """The pod's side alone. ``indexes``: of links there, where known."""
        objects, who = dropin.in_pod(piece), f"container {piece.container}"
        if isinstance(piece.want, InPod):
            inside.make(self._kernel, piece, piece.want, objects, namespace)
            return
        if isinstance(piece.want, InVrf):  # where that fails, addresses and routes stay as they are
            links = tuple(one for one in objects if isinstance(one, Link))
            wiring.program_pod(self._kernel, links, namespace, who)
            objects = tuple(one for one in objects if one not in links)
        gone = dropin.out_of_pod(piece)
        wiring.program_pod(self._kernel, objects, namespace, who, gone, indexes=indexes)

    def fill(self, piece: Piece, namespace: int) -> Piece:
        """Change one that stands to ``piece``: its addresses have become known. Raises what ``add`` does;
        then it is as it was, but for the pod's side."""
        before = self.known[piece.id]
        piece = msgspec.structs.replace(piece, boot_id=self._boot_id)
        there = {one.key: one for one in self._planner.fragment("piece", piece.id)}
        enter(self._planner, self._database, piece, "ready")
        try:
            wanted = self._planner.fragment("piece", piece.id)
            clash = next((one.key for one in wanted if one.key in self._planner.conflicts), None)
            if clash:
                raise Conflict(f"{wiring.title(clash)} is wanted differently by another pod")
            new = [one for one in wanted if there.get(one.key) != one]
            ops = ordered(Op(one, there.get(one.key)) for one in new)
            who = f"container {piece.container}"
            wiring.raise_first(self._kernel.apply(ops), who)
            wiring.program_pod(self._kernel, dropin.in_pod(piece), namespace, who, made=_made(before))
        except BaseException:
            enter(self._planner, self._database, before, "ready")
            raise
        return piece

    def amend(self, before: Piece, after: Piece) -> bool:
        """Keep what became of a piece without objects; False where it isn't as it was known any more."""
        if self.known.get(before.id) != before:
            return False
        enter(self._planner, self._database, after, "ready")
        return True

    def delete(self, name: str, namespace: int = -1) -> None:
        """Take a piece out of service, and later turns of its plugin before it; unknown is no error.
        Links and addresses go at the burial.

        ``namespace``: a descriptor of the pod's, where one is at hand."""
        reach("delete.begin")
        for piece in reversed(self.turns(name)):
            self._database.piece_state(piece.id, "deleting")
            reach("delete.journalled")
            self._take_out(inside.by(piece, namespace))
            reach("delete.detached")

    def undo(self, name: str, namespace: int) -> None:
        """Take away what an ADD has made that fails after all: when it is told, nothing is left."""
        self.delete(name, namespace)
        self.burial.complete(cooling=False)

    def _take_out(self, piece: Piece) -> None:
        inside.leave(self._kernel, piece)
        reach("inside.undone")
        forget = functools.partial(self._planner.update_piece, piece.id, None)
        wanted = self._planner.fragment("piece", piece.id)
        removals = wiring.take_out(self._kernel, self._planner, ("piece", piece.id), forget)
        for one in wanted:
            if isinstance(one, Passage) and one.key not in self._planner.desired:
                self._database.ledger_remove(" ".join(one.key))
        self.burial.doom(piece, removals)

    def take_over(self, of: Attached, namespace: int = -1, kind: str = "veth") -> None:
        """Free what the reference plugins made for an attachment that isn't known here."""
        takeover.free(self._kernel, self._database, of, namespace, kind)

    def check(
        self,
        piece: Piece,
        namespace: int,
        mac: str = "",
        foreign: Collection[str] | None = None,
        told: Told | None = None,
    ) -> None:
        """Raise Conflict (Lost on the node) naming the first thing that isn't as ``piece`` says.

        ``mac``: what later plugins of the chain have left as the interface's MAC. ``foreign``: the node's
        links by prevResult, where the reference plugin made it, so that on the node it has other names.
        ``told``: the addresses and routes of the chain's result."""
        subject = f"container {piece.container} interface {piece.ifname}"
        if foreign is not None:
            takeover.require(self._kernel, _as_attached(piece), piece.want, foreign)
        else:
            self._check_node(piece, subject)
        moved = self._moved_on(piece)
        if foreign is not None:
            moved |= moved_on(self._kernel.observe_inside(namespace), piece.ifname)
        inner = tuple(one for one in dropin.in_pod(piece) if one.key not in moved)
        if isinstance(piece.want, InPod):
            inner = tuple(inside.tolerated(one, piece, foreign is not None) for one in inner)
        if not isinstance(piece.want, Tuned):  # what a tuning after it sets is no objection
            inner = tuple(wiring.as_left(one, mac) for one in inner if not isinstance(one, Sysctl))
        sought: tuple[AnyObject, ...] = ()
        told = told if inner else None  # of a card that a program drives nothing is in the pod
        if told is not None:
            inner = required(piece, inner, told, ours=foreign is None)
            sought = told.sought(piece.ifname)
        if inner or sought:
            found = self._kernel.look_up_inside(namespace, (*inner, *sought))
            wiring.require((_of_kind(one, found) for one in inner), found, "in the pod", subject)
            if told is not None and (missing := told.missing(found, piece.ifname)):
                what = f"{wiring.title(missing)} is missing in the pod"
                raise Conflict(what, subject, "delete and add the pod")

    def _check_node(self, piece: Piece, subject: str) -> None:
        of_node = (*dropin.on_node(piece), *passage.piece(piece, self._planner.inputs.facts))
        desired = self._planner.desired  # differs where a port leads to another interface of the pod
        wanted = tuple(desired.get(one.key, one) for one in of_node)
        wiring.require(wanted, self._kernel.look_up(wanted), "on the node", subject, Lost)

    def _moved_on(self, piece: Piece) -> set[Key]:
        """The routes of a pod's interface that a later plugin of its chain has put into another table."""
        me = f"{piece.container}/{piece.ifname}/{piece.configuration}"
        later = (self.known.get(f"{me}/{plugin}") for plugin in ("sbr", "vrf") if plugin != piece.plugin)
        return {route.key for one in later if one and isinstance(one.want, Moved) for route in one.want.found}

    def recover(self) -> None:
        """At a start: half-made and half-deleted ones are undone. Those of an earlier boot are gone with it,
        but for their addresses; what has their links' names now is somebody else's."""
        unfinished = []
        rows = self._database.pieces().values()
        earlier = [piece for piece, _ in rows if piece.boot_id != self._boot_id]
        for piece in earlier:
            hostlocal.give_back(piece)
        if earlier:
            self._database.forget_pieces([piece.id for piece in earlier])
        for piece, state in rows:
            if piece.boot_id != self._boot_id:
                continue
            self._planner.update_piece(piece.id, piece)
            self.burial.forget_flows(piece)  # the call that published it may have been cut off
            if state != "ready":
                unfinished.append(piece.id)
        for name in unfinished:
            with contextlib.suppress(Conflict, OSError):  # the runtime's DEL or GC is told of it
                self.delete(name)


def enter(planner: Planner, database: Database, piece: Piece, state: str) -> None:
    """Known to whoever comes after a crash, before the kernel is touched."""
    try:
        planner.update_piece(piece.id, piece)
        database.begin_piece(piece, state)
    except BaseException:
        planner.update_piece(piece.id, None)
        raise


def _made(piece: Piece) -> Link | None:
    """How its link stands in the pod, where that was made there: not each takes a MAC later."""
    links = (one for one in dropin.in_pod(piece) if isinstance(one, Link))
    return next(links, None) if isinstance(piece.want, InPod) else None


def _as_attached(piece: Piece) -> Attached:
    told = piece.want.addresses if isinstance(piece.want, Passed) else piece.addresses
    bare = tuple(address.partition("/")[0] for address in told)
    return Attached(
        network=piece.configuration, container=piece.container, ifname=piece.ifname, addresses=bare
    )


def _of_kind(value: AnyObject, found: Actual) -> AnyObject:
    """The interface of a pod that the reference plugins attached may be of any kind."""
    there = found.get(value.key)
    if isinstance(value, Link) and isinstance(there, Link) and not value.kind:
        return msgspec.structs.replace(value, kind=there.kind)
    return value

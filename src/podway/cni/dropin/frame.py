"""The two shapes of a drop-in plugin, and what they are asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import msgspec

from podway.cni import config
from podway.cni.dropin import ipam, zones
from podway.cni.dropin.ask import Ask
from podway.cni.dropin.previous import is_about, on_node, told
from podway.cni.errors import wrong
from podway.cni.protocol import Result
from podway.cni.steps import PAUSE, Pause, Steps, Work, looked
from podway.model.dropin import AnyWant, Piece
from podway.model.errors import Conflict
from podway.model.objects import Address as Addressed
from podway.plan.dropin.foreign import Attached

if TYPE_CHECKING:
    from podway.node.engine import NodeEngine

SETTLING = 10.0  # seconds that addresses may take

__all__ = ["Ask", "Chained", "Maker", "Plugin"]


class Plugin(Protocol):
    """One name. Each method is a generator of steps; ADD ends with the result to print."""

    def add(self, ask: Ask) -> Steps[Result | None]: ...

    def delete(self, ask: Ask) -> Steps[None]: ...

    def check(self, ask: Ask) -> Steps[None]: ...

    def collect(self, ask: Ask) -> Steps[None]: ...

    def status(self, ask: Ask) -> Steps[None]: ...


def _unprepared(engine: NodeEngine, ask: Ask, piece: Piece) -> Piece:
    return piece


Prepare = Callable[["NodeEngine", Ask, Piece], Piece]
Addresses = tuple[str, ...]  # bare
Theirs = Callable[["NodeEngine"], Addresses]


class _Shape:
    """What both shapes do alike: remove, collect, answer STATUS."""

    def __init__(self, name: str, prepare: Prepare, kind: str = "veth") -> None:
        self.name = name
        self.kind = kind
        self._prepare = prepare

    def _piece(self, ask: Ask, want: AnyWant, addresses: tuple[str, ...] = ()) -> Piece:
        return Piece(
            container=ask.me.container,
            ifname=ask.me.ifname,
            configuration=ask.conf.name,
            want=want,
            addresses=addresses,
            namespace=ask.me.namespace,
            namespace_id=ask.namespace_id,
        )

    def _id(self, ask: Ask) -> str:
        return f"{ask.me.container}/{ask.me.ifname}/{ask.conf.name}/{self.name}"

    def _attach(self, engine: NodeEngine, ask: Ask, piece: Piece, namespace: int) -> Piece:
        piece = self._prepare(engine, ask, piece)
        made = engine.pieces.add(piece, namespace)
        engine.reconciler.stood(engine.planner.fragment("piece", made.id))
        return made

    def _take_over(
        self, engine: NodeEngine, ask: Ask, addresses: Addresses = (), namespace: int = -1
    ) -> None:
        """Free what the reference plugins made before, and in ``namespace`` the link that this name makes."""
        me = (ask.me.container, ask.me.ifname)
        if any((one.container, one.ifname) == me for one in engine.attachments.endpoints.values()):
            return
        of = Attached(network=ask.conf.name, container=me[0], ifname=me[1], addresses=addresses)
        engine.pieces.take_over(of, namespace, self.kind)

    def _delete(self, ask: Ask, theirs: Theirs, free: Callable[[NodeEngine, Addresses], None]) -> Steps[None]:
        """``theirs``: addresses of a pod of the reference plugins', which firewalld may have in a zone.

        Of a pod of Podway's own it is one step."""

        def begin(engine: NodeEngine) -> Addresses:
            addresses = theirs(engine) if self._id(ask) not in engine.pieces.known else ()
            if not addresses:
                free(engine, ())
            return addresses

        addresses: Addresses = yield Work(begin)
        if addresses:
            yield from zones.leave({(ask.me.container, ask.me.ifname): addresses})
            yield Work(lambda engine: free(engine, addresses))

    def _collect(self, engine: NodeEngine, ask: Ask) -> None:
        """Goes on past errors and raises the first."""
        valid = config.valid_attachments(ask.section)
        first: Exception | None = None
        for piece in engine.pieces.of(ask.conf.name, self.name):
            if (piece.container, piece.ifname) not in valid:
                try:
                    engine.pieces.delete(piece.id)
                except Exception as error:
                    first = first or error
        engine.pieces.burial.complete()
        if first is not None:
            raise first


class Chained(_Shape):
    """A plugin after others. ``want(ask, before)`` is None where nothing is asked of it.

    ``result(ask, before, wanted)``: what it passes on. ``checked``: its pieces as CHECK wants them, where
    that isn't just what each ADD has set. ``repeats``: a chain may name it more than once; CHECK and DEL by
    one are of all, since nothing says which it was. Of a pod of the reference plugin's: ``inherit`` is what
    DEL does besides, ``theirs`` are the addresses by which it finds what was made, ``recognize`` completes
    for CHECK what would have been made, and raises Conflict."""

    def __init__(
        self,
        name: str,
        want: Callable[[Ask, Result], AnyWant | None],
        prepare: Prepare = _unprepared,
        result: Callable[[Ask, Result, AnyWant | None], Result] = lambda _, before, __: before,
        inherit: Callable[[NodeEngine, Ask], None] = lambda *_: None,
        theirs: Callable[[Ask], Addresses] = lambda _: (),
        recognize: Prepare = _unprepared,
        checked: Callable[[list[Piece]], list[Piece]] = lambda turns: turns,
        repeats: bool = False,
    ) -> None:
        super().__init__(name, prepare)
        self._want = want
        self._checked = checked
        self._result = result
        self._inherit = inherit
        self._theirs = theirs
        self._recognize = recognize
        self._repeats = repeats

    def _before(self, ask: Ask) -> Result:
        if ask.before is None:
            raise wrong("prevResult", f"is missing; {self.name} comes after another plugin in a chain")
        return ask.before

    def add(self, ask: Ask) -> Steps[Result | None]:
        before = self._before(ask)
        want = self._want(ask, before)
        if want is not None:
            piece, namespace = self._piece(ask, want), ask.pod_namespace()
            yield Work(lambda engine: self._attach_next(engine, ask, piece, namespace))
        return self._result(ask, before, want)

    def _attach_next(self, engine: NodeEngine, ask: Ask, piece: Piece, namespace: int) -> None:
        piece = engine.pieces.next_turn(piece) if self._repeats else piece
        self._attach(engine, ask, piece, namespace)

    def delete(self, ask: Ask) -> Steps[None]:
        def free(engine: NodeEngine, addresses: Addresses) -> None:
            if self._id(ask) not in engine.pieces.known:
                self._inherit(engine, ask)
                self._take_over(engine, ask, addresses)
            engine.pieces.delete(self._id(ask), ask.living)

        yield from self._delete(ask, lambda _: self._theirs(ask), free)

    def check(self, ask: Ask) -> Steps[None]:
        want = self._want(ask, self._before(ask))
        if want is not None:
            piece, namespace = self._piece(ask, want), ask.pod_namespace()
            yield from looked(lambda engine: self._check(engine, ask, piece, namespace))

    def _check(self, engine: NodeEngine, ask: Ask, piece: Piece, namespace: int) -> None:
        known = engine.pieces.turns(piece.series)
        foreign = None if known else on_node(self._before(ask))
        for one in self._checked(known or [self._recognize(engine, ask, piece)]):
            engine.pieces.check(one, namespace, foreign=foreign)

    def collect(self, ask: Ask) -> Steps[None]:
        yield Work(lambda engine: self._collect(engine, ask))

    def status(self, ask: Ask) -> Steps[None]:
        yield Work(lambda engine: engine.database.probe())


def _unsettled(engine: NodeEngine, namespace: int) -> list[Addressed]:
    """The pod's addresses that are looked for on the segment still, or were found there."""
    found = engine.kernel.observe_inside(namespace).values()
    return [one for one in found if isinstance(one, Addressed) and one.tentative]


class Made(msgspec.Struct, frozen=True):
    """What a Maker's ``want`` says: the value, and what of the IPAM result became of it."""

    want: AnyWant
    given: Result


class Maker(_Shape):
    """A plugin that makes an interface.

    ``want(ask, given)``: the value, from the configuration and the IPAM plugin's result (empty without IPAM).
    ``result(ask, piece, made, engine)``: what ADD answers, once everything stands.
    ``kind``: IFLA_INFO_KIND of what the reference plugin makes in the pod. ``segment``: whether a DHCP server
    may be on the other side of its link.
    """

    def __init__(
        self,
        name: str,
        want: Callable[[Ask, Result], Made],
        result: Callable[[Ask, Piece, Result, NodeEngine], Result],
        prepare: Prepare = _unprepared,
        needs_ipam: bool = False,
        settles: Callable[[Piece], bool] = lambda _: False,
        kind: str = "veth",
        source: Callable[[Ask, bool], ipam.Source] = ipam.source,
        segment: bool = True,
    ) -> None:
        super().__init__(name, prepare, kind)
        self._source_of = source
        self._segment = segment
        self._want = want
        self._result = result
        self._needs_ipam = needs_ipam
        self._settles = settles

    def _source(self, ask: Ask) -> ipam.Source:
        return self._source_of(ask, self._needs_ipam)

    def add(self, ask: Ask) -> Steps[Result | None]:
        source, namespace = self._source(ask), ask.pod_namespace(never_own=self.kind != "veth")
        if source.needs_interface:
            if not self._segment:
                raise wrong("ipam.type", f"there is nobody to ask on the link of a {self.name}")
            yield Work(lambda engine: self._attach_bare(engine, ask, namespace))
        try:
            given = yield from source.ask("ADD")
        except BaseException:
            if source.needs_interface:
                yield Work(lambda engine: engine.pieces.undo(self._id(ask), ask.living))
            raise
        try:
            made: Result
            made, settles = yield Work(lambda engine: self._make_whole(engine, ask, source, given, namespace))
            if settles:
                yield from self._settle(ask, namespace)
        except BaseException:
            yield from source.undo()
            raise
        return made

    def _settle(self, ask: Ask, namespace: int) -> Steps[None]:
        """Wait until IPv6 addresses may be used, where that was asked for; one that is taken undoes all."""
        settled = 0.0
        while waiting := (yield Work(lambda engine: _unsettled(engine, namespace))):
            taken = [one.address for one in waiting if one.passing]  # the kernel has found another's
            if taken or settled > SETTLING:
                yield Work(lambda engine: engine.pieces.undo(self._id(ask), ask.living))
                what = "is somebody else's on this segment" if taken else "can't be used yet"
                which = ", ".join(taken or [one.address for one in waiting])
                raise Conflict(f"{which} {what} (duplicate detection)", f"container {ask.me.container}")
            yield Pause(PAUSE)
            settled += PAUSE

    def _make_whole(
        self, engine: NodeEngine, ask: Ask, source: ipam.Source, found: Result, namespace: int
    ) -> tuple[Result, bool]:
        with engine.devices.whole():
            return self._make(engine, ask, source, found, namespace)

    def _make(
        self, engine: NodeEngine, ask: Ask, source: ipam.Source, found: Result, namespace: int
    ) -> tuple[Result, bool]:
        given, reserved = source.take(engine, found)
        try:
            if not given.ips and (self._needs_ipam or ask.section.section("ipam").text("type")):
                raise wrong("ipam", "gave no address")
            made = self._want(ask, given)
            piece = self._piece(ask, made.want, tuple(one.address for one in given.ips))
            piece = msgspec.structs.replace(piece, reserved=reserved)
            place = self._fill if source.needs_interface else self._attach
            piece = place(engine, ask, piece, namespace)
        except BaseException:
            source.free(engine)
            if source.needs_interface:
                engine.pieces.undo(self._id(ask), ask.living)
            raise
        try:
            return self._result(ask, piece, made.given, engine), self._settles(piece)
        except BaseException:  # what the configuration says of the result alone is read here first
            engine.pieces.undo(piece.id, ask.living)
            source.free(engine)
            raise

    def _attach_bare(self, engine: NodeEngine, ask: Ask, namespace: int) -> None:
        """The interface alone: by it the addresses are asked for."""
        with engine.devices.whole():
            self._attach(engine, ask, self._piece(ask, self._want(ask, Result()).want), namespace)

    def _fill(self, engine: NodeEngine, ask: Ask, piece: Piece, namespace: int) -> Piece:
        """With what became known, and the MAC under which it did."""
        mac = getattr(engine.pieces.known[piece.id].want, "mac", None)
        if mac:
            piece = msgspec.structs.replace(piece, want=msgspec.structs.replace(piece.want, mac=mac))
        return engine.pieces.fill(self._prepare(engine, ask, piece), namespace)

    def delete(self, ask: Ask) -> Steps[None]:
        source = ipam.source(ask, False)  # what ADD refuses is no reason to leave something behind
        yield from source.ask("DEL")

        def free(engine: NodeEngine, addresses: Addresses) -> None:
            if self._id(ask) not in engine.pieces.known:
                self._inherit(engine, ask, addresses)
            engine.pieces.delete(self._id(ask), ask.living)
            source.free(engine)

        yield from self._delete(ask, lambda _: source.held().get((ask.me.container, ask.me.ifname), ()), free)

    def _inherit(self, engine: NodeEngine, ask: Ask, addresses: Addresses) -> None:
        """A veth goes if its address is kept as the reference plugins do, or prevResult tells of it; another
        link if it is of the kind that the plugin of this name makes."""
        known = addresses or self.kind != "veth" or is_about(engine, ask)
        self._take_over(engine, ask, addresses, ask.living if known else -1)

    def check(self, ask: Ask) -> Steps[None]:
        if ask.before is None:
            raise wrong("prevResult", "is missing; CHECK compares with it")
        source, namespace, before = self._source(ask), ask.pod_namespace(), ask.before
        mac, expected = told(ask, before)
        yield from source.ask("CHECK")

        def work(engine: NodeEngine) -> None:
            source.check(engine)
            known = engine.pieces.known.get(self._id(ask))
            foreign = None if known is not None else on_node(before)
            if known is None:
                made = self._want(ask, before)
                known = self._piece(ask, made.want, expected.addresses)
            engine.pieces.check(known, namespace, mac, foreign, expected)

        yield from looked(work)

    def collect(self, ask: Ask) -> Steps[None]:
        source = self._source(ask)
        valid = config.valid_attachments(ask.section)

        def begin(engine: NodeEngine) -> dict[tuple[str, str], Addresses]:
            self._collect(engine, ask)
            held = source.held().items()
            return {owner: addresses for owner, addresses in held if owner[1] and owner not in valid}

        def finish(engine: NodeEngine) -> None:
            for (container, ifname), addresses in gone.items():
                of = Attached(network=ask.conf.name, container=container, ifname=ifname, addresses=addresses)
                engine.pieces.take_over(of)
            source.collect(engine)

        gone: dict[tuple[str, str], Addresses] = yield Work(begin)
        if gone:
            yield from zones.leave(gone)
        yield Work(finish)
        yield from source.ask("GC")

    def status(self, ask: Ask) -> Steps[None]:
        source = self._source(ask)
        yield from source.ask("STATUS")
        yield Work(lambda engine: engine.database.probe())

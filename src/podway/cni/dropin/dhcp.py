"""``dhcp``: an address that a DHCP server lends to an interface that is there already; the agent extends it.

As an IPAM plugin inside one of ours, or by itself under another's.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from podway.cni import config
from podway.cni.dropin.ask import Ask
from podway.cni.dropin.ipam import Source
from podway.cni.dropin.paths import ON_LINK, SCOPE_LINK
from podway.cni.errors import CONFIGURATION, CniError, wrong
from podway.cni.protocol import Address, Result, Route
from podway.cni.reader import Section
from podway.cni.steps import Aside, Steps, Work
from podway.ipam import dhcp as codec
from podway.model.dropin import Leased, Piece
from podway.model.errors import Conflict, Unavailable
from podway.model.objects import Address as Addressed
from podway.model.objects import Link, family_of
from podway.node import dhcp, takeover, wiring

if TYPE_CHECKING:
    from podway.node.engine import NodeEngine

PATIENCES = (1.0, 2.0, *(4.0,) * 14)  # seconds for an answer, of each attempt: a minute in all
_NAMES = {
    "dhcp-client-identifier": codec.CLIENT_ID,
    "subnet-mask": codec.MASK,
    "routers": codec.ROUTER,
    "host-name": codec.HOST_NAME,
    "user-class": codec.USER_CLASS,
    "vendor-class-identifier": codec.VENDOR_CLASS,
}
_OWN = (codec.REQUESTED, codec.LEASE_TIME, codec.TYPE, codec.SERVER, codec.PARAMETERS)
_DEFAULTS = (codec.ROUTER, codec.MASK)
_LONGEST = 255  # bytes of an option
_MAC = 17  # characters of an Ethernet address


def options(ask: Ask) -> dict[int, bytes]:
    """What each message carries, of ``provide`` and ``request``. Raises CniError 7, naming the key."""
    section = ask.section.section("ipam")
    found = {codec.CLIENT_ID: codec.client_id(ask.me.container, ask.conf.name, ask.me.ifname)}
    arguments = dict(
        pair.split("=", 1) for pair in ask.call.env.get("CNI_ARGS", "").split(";") if "=" in pair
    )
    for one in section.sections("provide"):
        number = _number(one)
        if number in _OWN:
            raise wrong(one.at("option"), f"{number} is the client's own")
        values = (one.text("value"), arguments.get(one.text("fromArg"), ""))
        for data in (value.encode("utf-8", "replace") for value in values if value):
            if len(data) > _LONGEST:
                raise wrong(one.at("value"), f"is longer than {_LONGEST} bytes")
            found[number] = data
    wanted = section.sections("request")
    asked = [_number(one) for one in wanted if one.text("option")]
    if not any(one.flag("skipDefault", False) for one in wanted):
        asked += _DEFAULTS
    if len(asked) > _LONGEST:
        raise wrong(section.at("request"), "asks for too many")
    return {**found, codec.PARAMETERS: bytes(dict.fromkeys(asked))}


def _number(one: Section) -> int:
    """Of an option by its name or number."""
    text = one.text("option")
    if text in _NAMES:
        return _NAMES[text]
    if not (text.isascii() and text.isdigit() and 0 < int(text[:4]) < 255):
        known = ", ".join(_NAMES)
        raise wrong(one.at("option"), f"{text!r} is no DHCP option", f"a number from 1 to 254, or of {known}")
    return int(text)


class Dhcp(Source):
    """A lease, as an IPAM source that needs the interface."""

    needs_interface = True

    @property
    def _id(self) -> str:
        return f"{self._ask.me.container}/{self._ask.me.ifname}/{self._ask.conf.name}/dhcp"

    def ask(self, command: str) -> Steps[Result]:
        if command == "ADD":
            return (yield from self._obtain())
        if command == "DEL":
            yield from self._release()
        elif command == "CHECK":
            yield from self._take_up()
        elif command == "GC":
            yield from self._collect()
        elif command == "STATUS":
            yield Work(_require_agent)
        return Result()

    def _priority(self) -> int:
        self._ask.section.section("ipam").text("daemonSocketPath")
        return self._ask.section.section("ipam").number("priority", highest=2**32 - 1)

    def _obtain(self) -> Steps[Result]:
        asked, fd, me = options(self._ask), self._ask.pod_namespace(), self._ask.me
        metric = self._priority() or None
        link: Link = yield Work(self._ready)
        who = _station(link, asked)
        for patience in PATIENCES:
            lease = yield Aside(functools.partial(_attempt, fd, me.ifname, who, patience))
            if lease is not None:
                break
        else:
            seconds = sum(PATIENCES)
            what = f"no DHCP server has given {me.ifname} an address within {seconds:.0f} s"
            raise Unavailable(what, f"container {me.container}", "try again")
        piece = self._piece(lease)
        try:
            yield Work(lambda engine: _keep(engine, piece))
        except BaseException:
            yield Aside(lambda: dhcp.release(piece, lease))
            raise
        routes = tuple(_route(dst, gw, metric) for dst, gw in lease.routes)
        return Result(ips=(Address(address=lease.address, gateway=lease.gateway),), routes=routes)

    def _piece(self, lease: Leased) -> Piece:
        me = self._ask.me
        return Piece(
            container=me.container,
            ifname=me.ifname,
            configuration=self._ask.conf.name,
            want=lease,
            namespace=me.namespace,
            namespace_id=self._ask.namespace_id,
        )

    def _ready(self, engine: NodeEngine) -> Link:
        """The interface, once it is up. Raises Unavailable, Conflict."""
        _require_agent(engine)
        where, fd = f"container {self._ask.me.container}", self._ask.call.pod_fd
        if self._id in engine.pieces.known:
            raise Conflict(f"{self._ask.me.ifname} has a lease already", where, "send DEL first")
        link = engine.kernel.observe_inside(fd).get(("link", self._ask.me.ifname))
        if not isinstance(link, Link) or len(link.mac or "") != _MAC:
            raise Unavailable(f"there is no Ethernet interface {self._ask.me.ifname} in the pod", where)
        if not link.up:
            wiring.program_pod(engine.kernel, [Link(name=link.name, kind=link.kind)], fd, where)
        return link

    def undo(self) -> Steps[None]:
        """Forget the lease, of which the server is told while the pod is there."""
        yield Work(lambda engine: engine.pieces.delete(self._id, self._ask.living))

    def _release(self) -> Steps[None]:
        """One that nobody here knows is confirmed first, for its server must be named in what is sent."""
        known = yield Work(lambda engine: self._id in engine.pieces.known)
        lease = None if known else (yield from self._confirmed())
        if lease is None:
            yield from self.undo()
            return
        subject = f"container {self._ask.me.container} interface {self._ask.me.ifname}"
        yield Work(lambda engine: takeover.note(engine.database, subject, [f"lease {lease.address}"]))
        yield Aside(lambda: dhcp.release(self._piece(lease), lease))

    def _take_up(self) -> Steps[None]:
        """Extend from now on a lease of the reference plugin's daemon, or of a database that is lost."""
        if (yield Work(lambda engine: self._id in engine.pieces.known)):
            return
        yield Work(_require_agent)
        lease = yield from self._confirmed()
        if lease is not None:
            yield Work(lambda engine: _keep(engine, self._piece(lease)))

    def _confirmed(self) -> Steps[Leased | None]:
        """What a server says of the address that the interface has; None without either."""
        fd, ifname = self._ask.living, self._ask.me.ifname
        held: tuple[Link, str] | None = yield Work(lambda engine: _address(engine, fd, ifname))
        if held is None:
            return None
        link, address = held
        try:
            who = _station(link, options(self._ask))
            found: Leased | None = yield Aside(lambda: dhcp.confirmed(fd, ifname, who, address))
        except (CniError, OSError, ValueError):  # nothing can be asked, or no use be made of the answer
            return None
        return found

    def _collect(self) -> Steps[None]:
        valid, name = config.valid_attachments(self._ask.section), self._ask.conf.name

        def work(engine: NodeEngine) -> None:
            for piece in engine.pieces.of(name, "dhcp"):
                if (piece.container, piece.ifname) not in valid:
                    engine.pieces.delete(piece.id)

        yield Work(work)

    def check(self, engine: NodeEngine) -> None:
        piece, where = engine.pieces.known.get(self._id), f"container {self._ask.me.container}"
        if piece is None or not isinstance(piece.want, Leased):
            raise Conflict(f"{self._ask.me.ifname} has no lease", where, "delete and add the pod")
        if piece.want.lost or piece.want.expires_at < dhcp.now():
            why = piece.want.lost or "it has run out"
            what = f"the lease of {piece.want.address} is lost: {why}"
            raise Conflict(what, where, "delete and add the pod")


def _station(link: Link, asked: dict[int, bytes]) -> dhcp.Station:
    """Links of ipvlan share a MAC and are told apart by addresses: what is sent to a new one is lost."""
    return dhcp.Station(link.mac or "", asked, broadcast=link.kind == "ipvlan")


def _route(dst: str, gw: str, metric: int | None) -> Route:
    """One without a router is on the link, in a result by the router 0.0.0.0, lest the gateway be taken."""
    return Route(dst=dst, gw=gw or ON_LINK, priority=metric, scope=None if gw else SCOPE_LINK)


def _address(engine: NodeEngine, namespace: int, ifname: str) -> tuple[Link, str] | None:
    """A pod's interface that is up, and its IPv4 address; None without."""
    found = engine.kernel.observe_inside(namespace) if namespace >= 0 else {}
    link = found.get(("link", ifname))
    if not isinstance(link, Link) or len(link.mac or "") != _MAC or not link.up:
        return None
    own = (one.address for one in found.values() if isinstance(one, Addressed) and one.link == ifname)
    bare = (one.partition("/")[0] for one in own if family_of(one) == 4)
    return next(((link, one) for one in bare), None)


def _attempt(fd: int, ifname: str, who: dhcp.Station, patience: float) -> Leased | None:
    try:
        return dhcp.obtain(fd, ifname, who, patience)
    except ValueError as error:
        what = f"the DHCP server's answer can't be used: {error}"
        raise CniError(CONFIGURATION, what, fix="see ipam.request") from None


def _require_agent(engine: NodeEngine) -> None:
    if engine.leased is None:
        raise Unavailable("no agent runs that would extend a DHCP lease", fix="start podway agent")


def _keep(engine: NodeEngine, piece: Piece) -> None:
    engine.pieces.add(piece, -1)
    if engine.leased is not None:
        engine.leased()


class DhcpPlugin:
    """See ``frame.Plugin``."""

    def _source(self, ask: Ask) -> Dhcp:
        if not ask.section.section("ipam").text("type"):
            raise wrong("ipam", "is missing; dhcp is an IPAM plugin")
        return Dhcp(ask)

    def add(self, ask: Ask) -> Steps[Result | None]:
        return (yield from self._source(ask).ask("ADD"))

    def delete(self, ask: Ask) -> Steps[None]:
        yield from self._source(ask).ask("DEL")

    def check(self, ask: Ask) -> Steps[None]:
        source = self._source(ask)
        yield from source.ask("CHECK")
        yield Work(source.check)

    def collect(self, ask: Ask) -> Steps[None]:
        yield from self._source(ask).ask("GC")

    def status(self, ask: Ask) -> Steps[None]:
        yield from self._source(ask).ask("STATUS")


PLUGIN = DhcpPlugin()

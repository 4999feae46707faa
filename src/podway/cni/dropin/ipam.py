"""Where a plugin's addresses come from: Podway's own host-local inside the same call, or an executable.

A foreign IPAM plugin gets the whole configuration and environment, a failed ADD is followed by its DEL, and
CHECK, DEL, GC and STATUS are forwarded, as the contract asks.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from podway.cni import config, result
from podway.cni.dropin import ranges, static
from podway.cni.dropin.ask import Ask
from podway.cni.errors import CONFIGURATION, DECODE, ENVIRONMENT, CniError, wrong
from podway.cni.protocol import SINCE, Result, at_least
from podway.cni.reader import Section
from podway.cni.steps import Run, Steps
from podway.model.dropin import Reservation
from podway.model.errors import Conflict, Exhausted
from podway.node.hostlocal import HostLocal

if TYPE_CHECKING:
    from podway.node.engine import NodeEngine

Taken = tuple[Result, Reservation | None]


class Source:
    """No IPAM: no addresses. The others override what they do differently."""

    #: whether the pod's interface has to be there before it can be asked
    needs_interface = False

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def ask(self, command: str) -> Steps[Result]:
        """Have another executable asked, where there is one; its result (of ADD)."""
        yield from ()
        return Result()

    def undo(self) -> Steps[None]:
        """After an ADD that failed later."""
        yield from ()

    def take(self, engine: NodeEngine, found: Result) -> Taken:
        """On the writer thread: the addresses, and what is to be given back with the piece."""
        return found, None

    def free(self, engine: NodeEngine) -> None:
        """Whatever the interface holds, unless it goes with its links at the burial."""

    def held(self) -> dict[tuple[str, str], tuple[str, ...]]:
        """(Container, interface) → addresses of this network, where that is kept in files."""
        return {}

    def check(self, engine: NodeEngine) -> None:
        """Raise Conflict when nothing is reserved."""

    def collect(self, engine: NodeEngine) -> None:
        """Give back what no valid attachment holds."""


class Previous(Source):
    """The addresses of the plugin before, which are that one's to free."""

    def take(self, engine: NodeEngine, found: Result) -> Taken:
        assert self._ask.before is not None
        return self._ask.before, None


class OwnHostLocal(Source):
    """host-local, in the directory of the reference plugin."""

    def _files(self) -> HostLocal:
        return HostLocal(ranges.directory(self._ask.section.section("ipam")), self._ask.conf.name)

    @property
    def _owner(self) -> tuple[str, str]:
        return self._ask.me.container, self._ask.me.ifname

    def take(self, engine: NodeEngine, found: Result) -> Taken:
        settings, files = ranges.settings(self._ask), self._files()
        burial = engine.pieces.burial
        if self._owner in burial.holders(files.path):
            burial.make_room()
        try:
            given = files.take(self._owner, settings.sets, settings.wanted)
        except (Exhausted, Conflict):
            if not burial.holders(files.path):
                raise
            burial.make_room()  # what pods that are gone had is free then
            given = files.take(self._owner, settings.sets, settings.wanted)
        try:
            reserved = Reservation(directory=files.path, addresses=tuple(one.address for one in given))
            return settings.result(given), reserved
        except BaseException:
            self.free(engine)
            raise

    def held(self) -> dict[tuple[str, str], tuple[str, ...]]:
        return self._files().held()

    def free(self, engine: NodeEngine) -> None:
        files = self._files()
        if self._owner not in engine.pieces.burial.holders(files.path):
            files.free(self._owner)

    def check(self, engine: NodeEngine) -> None:
        files = self._files()
        if not files.held_by(self._owner):
            raise Conflict(f"no address is reserved for interface {self._owner[1]}", files.path)

    def collect(self, engine: NodeEngine) -> None:
        files = self._files()
        files.collect(config.valid_attachments(self._ask.section), engine.pieces.burial.holders(files.path))


class OwnStatic(Source):
    """static, which keeps nothing."""

    def take(self, engine: NodeEngine, found: Result) -> Taken:
        return static.given(self._ask), None

    def check(self, engine: NodeEngine) -> None:
        static.require(self._ask)


class Foreign(Source):
    """An IPAM plugin's executable, found on CNI_PATH."""

    def __init__(self, ask: Ask, name: str) -> None:
        super().__init__(ask)
        self._name = name

    def _run(self, command: str) -> Run:
        call = self._ask.call
        for directory in call.env.get("CNI_PATH", "").split(":"):
            path = os.path.join(directory, self._name)
            if directory and os.path.isfile(path):
                return Run(path, {**call.env, "PATH": call.path, "CNI_COMMAND": command}, call.stdin)
        where = call.env.get("CNI_PATH", "") or "CNI_PATH, which is empty"
        raise CniError(ENVIRONMENT, f"ipam.type: there is no plugin {self._name} in {where}")

    def ask(self, command: str) -> Steps[Result]:
        version = self._ask.conf.version
        if not at_least(version, SINCE.get(command, version)):
            return Result()
        try:
            printed: bytes = yield self._run(command)
        except Exception:
            if command == "ADD":
                yield from self._forgiving("DEL")
            raise
        if command != "ADD":
            return Result()
        try:
            return self._decoded(printed)
        except CniError:
            yield from self._forgiving("DEL")
            raise

    def _decoded(self, printed: bytes) -> Result:
        try:
            given = Section({"prevResult": msgspec.json.decode(printed)})
        except msgspec.DecodeError as error:
            raise CniError(DECODE, f"IPAM plugin {self._name} printed no JSON: {error}") from None
        found = result.previous(given, self._ask.conf.version)
        if found is None or not found.ips:
            raise CniError(CONFIGURATION, f"IPAM plugin {self._name} gave no address")
        return found

    def undo(self) -> Steps[None]:
        yield from self._forgiving("DEL")

    def _forgiving(self, command: str) -> Steps[None]:
        """What has gone wrong already is what is told."""
        try:
            yield self._run(command)
        except Exception:
            return


_OWN: dict[str, type[Source]] = {"host-local": OwnHostLocal, "static": OwnStatic}


def source(ask: Ask, required: bool) -> Source:
    """Of the configuration's ``ipam.type``. Raises CniError 7."""
    section = ask.section.section("ipam")
    name = section.text("type")
    if not name:
        if required:
            raise wrong(section.at("type"), "is missing; this plugin needs addresses")
        return Source(ask)
    if not config.NAME.fullmatch(name):
        raise wrong(section.at("type"), f"{name!r} is no plugin's name")
    if name == "dhcp":
        from podway.cni.dropin.dhcp import Dhcp  # itself a Source

        return Dhcp(ask)
    if name in _OWN:
        return _OWN[name](ask)
    return Foreign(ask, name)

"""Keeps BIRD at what the planner says: starts, tells, watches, restarts it, and remembers its sessions.

A configuration that BIRD refuses is quarantined by its hash until it changes; the running one stays. A
BIRD that dies or hangs is started anew with the kernel's routes kept; one that dies again and again is
left for longer each time, and its routes stay too.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from podway.agent.deathwatch import DeathWatch
from podway.agent.hanging import Hanging, answer, pulse
from podway.agent.sessions import BgpStatus, History, PeerStatus, Recently, Turn, called
from podway.bird.meaning import OFTEN, Clues, why
from podway.bird.process import BirdProcess
from podway.bird.render import digest, render
from podway.bird.replies import BfdState, BgpRoute, SessionState, Standing
from podway.kernel import counters, listeners
from podway.model.bgp import Session, Speaker
from podway.model.errors import Conflict, InvalidInput, PodwayError
from podway.plan.bgp import Told
from podway.plan.notes import Note, fold

POLL = 2.0  # seconds between looks at the sessions
SHOWN = 1.0  # seconds that whoever wants to see them waits for details at most
DETAILS = 50  # times what reading all details takes, until they are read again without being asked for
HUNG = 2  # looks in a row without an answer until BIRD is killed, though it does something
CALM = 30.0  # seconds of life after which an end counts as the first
LONGEST = 60.0  # seconds of back-off at most
SETTLING = 10.0  # seconds that sessions may take to come up again with a BIRD that was started anew
NONE = "BIRD does not run here: podway bgp status says why"
DEAD = "BFD lost it, and its kernel does not answer either: taken for dead, its routes are withdrawn"

_log = logging.getLogger("podway.bgp")


class BirdKeeper:
    """Lives on the event loop. ``follow`` after every synchronization, ``stop`` leaves BIRD at work."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        directory: Path,
        told: Callable[[], Told],
        handed_over: Callable[[int], None] = lambda _: None,
        note: Callable[[list[tuple[str, str, str]]], None] = lambda _: None,
    ) -> None:
        self._handed_over = handed_over
        self._note = note
        self.process = BirdProcess(directory)
        self._loop = loop
        self._told = told
        self._rendered: tuple[Speaker, str] | None = None
        self._refused: dict[str, tuple[str, str]] = {}  # digest of a configuration → what BIRD said, of what
        self._trouble: Note | None = None
        self._version = ""
        self._task: asyncio.Task[None] | None = None
        self._again = False
        self._timer: asyncio.TimerHandle | None = None
        self._pidfd = -1
        self._running = False
        self._started = 0.0
        self._deaths = self._silent = 0
        self._retry_at = 0.0
        self._states: dict[str, str] = {}
        self._sessions: dict[str, SessionState] = {}
        self._detailed_at = 0.0  # when details may be read again by themselves
        self._bfd: dict[str, BfdState] = {}
        self._history = History(time.time())
        self._md5 = Recently()
        self._watch_over = DeathWatch(loop, self.process.client)

    def follow(self) -> None:
        """Bring BIRD to what is wanted; returns at once."""
        if self._task is not None:
            self._again = True
            return
        if self._told().speaker is None and not self._version and self.process.pid() is None:
            return  # no BGP here, and none to end
        self._task = self._loop.create_task(self._keep())
        self._task.add_done_callback(self._kept)

    def stop(self) -> None:
        """Let go of BIRD, which goes on."""
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
        self._watch_over.stop()
        self._forget_pidfd()

    # one step --------------------------------------------------------------------------------------

    def _kept(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if task.cancelled():
            return
        if task.exception() is not None:
            _log.error("keeping BIRD failed", exc_info=task.exception())
        if self._again:
            self._again = False
            self.follow()
        elif self._told().speaker is not None:
            self._timer = self._loop.call_later(POLL, self.follow)

    async def _keep(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        speaker = self._told().speaker
        try:
            if speaker is None:
                self._forget_pidfd()
                self._running = False
                self._watch_over.stop()
                await self.process.end()
                self._states, self._sessions, self._version = {}, {}, ""
                return
            await self._converge(speaker)
            self._trouble = None
        except (PodwayError, OSError) as error:  # a full disk, too
            said = (error.what, error.fix) if isinstance(error, PodwayError) else (str(error), "")
            trouble = Note("BIRD", *said)
            if trouble != self._trouble:
                _log.error("BGP", extra={"why": trouble.sentence})
            self._trouble = trouble
        await self._look()

    def _text(self, speaker: Speaker) -> str:
        """The configuration of a speaker, rendered once: it is compared at every look."""
        if self._rendered is None or self._rendered[0] != speaker:
            self._rendered = speaker, render(speaker, str(self.process.log))
        return self._rendered[1]

    async def _converge(self, speaker: Speaker) -> None:
        text = self._text(speaker)
        running = self.process.adopt()
        if running is not None:
            self._watch(running)
            self._version = self._version or await self.process.version()
            if text != self.process.installed():
                await self._offer(text, self.process.tell)
            return
        if self._running:
            self._died()  # so soon that nobody was watching
        if time.monotonic() >= self._retry_at:
            await self._begin(speaker, text)

    async def _begin(self, speaker: Speaker, text: str) -> None:
        """Start BIRD: with what it took before where it refuses ``text``."""
        self._version = await self.process.version()  # it may be another one than that which ended
        require_port(speaker)
        refusal = None
        try:
            await self._offer(text, self.process.check)
            self.process.install(text)
        except InvalidInput as error:
            if not self.process.installed():
                raise
            refusal = error
        await self.process.start(recover=bool(_learned()))
        self._started, self._running = time.monotonic(), True
        pid = self.process.pid()
        if pid is not None:
            self._watch(pid)
        _log.info("BIRD started", extra={"pid": pid, "version": self._version})
        if refusal is not None:
            raise refusal

    async def _offer(self, text: str, offer: Callable[[str], Awaitable[None]]) -> None:
        """Offer BIRD a configuration. One that it refused is not offered again, and said to be refused again;
        that it didn't answer, or couldn't be run, says nothing of the configuration."""
        refused = self._refused.get(digest(text))
        if refused is not None:
            raise InvalidInput(*refused)
        try:
            await offer(text)
        except InvalidInput as error:
            self._refused[digest(text)] = error.what, error.where
            raise

    # its life --------------------------------------------------------------------------------------

    def _watch(self, pid: int) -> None:
        if self._pidfd >= 0:
            return
        with contextlib.suppress(ProcessLookupError):
            self._pidfd = os.pidfd_open(pid)
            self._loop.add_reader(self._pidfd, self._died)

    def _forget_pidfd(self) -> None:
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    def _died(self) -> None:
        self._forget_pidfd()
        self._running = False
        lived = time.monotonic() - self._started
        self._deaths = self._deaths + 1 if lived < CALM else 1
        delay = 0.0 if self._deaths == 1 else min(LONGEST, 2.0 ** (self._deaths - 2))
        self._retry_at = time.monotonic() + delay
        _log.warning("BIRD ended", extra={"lived": round(lived, 1), "again_in": delay})
        self._history.interrupted(time.time())
        self._note([("ended", "bgp BIRD", f"after {lived:.0f} s; its routes are kept")])
        self._loop.call_later(delay, self.follow)

    async def _look(self) -> None:
        """Read the sessions; a BIRD that answers no more is killed, and so started anew."""
        pid = self.process.pid()
        if pid is None:
            self._states, self._sessions, self._bfd = {}, {}, {}
            return
        before = self._states
        try:
            standings = await answer(self.process.client.standings(), lambda: pulse(pid))
            turns = self._history.look(standings, time.time())
            self._states = {name: standing.state for name, standing in standings.items()}
            if self._states != before and time.monotonic() >= self._detailed_at:
                await self._read_details()
        except PodwayError as error:
            self._silent += 1
            if self._silent >= HUNG or isinstance(error, Hanging):
                _log.error("BIRD hangs and is killed", extra={"why": str(error)})
                self._silent = 0
                self.process.kill()
            return
        self._silent = 0
        self._md5.take(counters.md5_drops(), time.monotonic())
        self._say(turns)
        speaker = self._told().speaker
        self._watch_over.follow(speaker.sessions if speaker is not None else (), self._states)
        await self._look_at_handover()

    async def refresh(self) -> None:
        """Read what is about to be shown. What can't be read now stays as it was."""
        if self._version and not self._silent:
            with contextlib.suppress(PodwayError, TimeoutError):
                async with asyncio.timeout(SHOWN):
                    await self._read_details()

    async def _read_details(self) -> None:
        """Everything of every session: of a hundred it takes long, and so is not read at every look."""
        began = time.monotonic()
        found, bfd = await self.process.client.sessions(), await self.process.client.bfd()
        self._sessions = {one.name: one for one in found}
        self._states = {one.name: one.state for one in found}
        self._bfd = {one.address: one for one in bfd}
        ended = time.monotonic()
        self._detailed_at = ended + DETAILS * (ended - began)
        # who came up and is lost again before the next look was there
        standings = {one.name: Standing(one.state, one.since) for one in found}
        self._say(self._history.look(standings, time.time()))

    async def _look_at_handover(self) -> None:
        """Say when the sessions that stay after a change are up, and bring every prefix that others bring."""
        told = self._told()
        change, speaker = told.handover, told.speaker
        if change is None or speaker is None or self._text(speaker) != self.process.installed():
            return
        if any(self.down(name) for name in change.needed):
            return
        going = {session.name for session in speaker.sessions if session.node} - change.staying
        brought: dict[str, set[str]] = {}
        for route in await self.process.client.routes():
            brought.setdefault(route.prefix, set()).add(route.session)
        if all(by & change.staying for by in brought.values() if by & going):
            self._handed_over(change.generation)

    def down(self, name: str) -> bool:
        """Whether a session, by its name, isn't established as far as was seen."""
        return self._states.get(name) != "Established"

    def unheard(self) -> frozenset[str]:
        """Nodes that no session is established with, though one is wanted, and established with others."""
        speaker = self._told().speaker
        wanted = [session for session in speaker.sessions if session.node] if speaker is not None else []
        up = {one.description for one in wanted if not self.down(one.name)}
        return frozenset(d.removeprefix("node ") for one in wanted if (d := one.description) not in up and up)

    def _say(self, turns: list[Turn]) -> None:
        """Log sessions that came up or were lost, and tell whoever keeps a journal."""
        if not turns:
            return
        peers = {peer.name: peer for peer in self.status().peers}
        for turn in turns:
            if (peer := peers.get(turn.name)) is None:
                continue
            more = {"peer": peer.shown, "address": peer.neighbor}
            if turn.up:
                _log.info("BGP session up", extra=more)
            else:
                _log.warning("BGP session lost", extra=more | {"lasted": round(turn.lasted), "why": peer.why})
            self._note([("up" if turn.up else "lost", f"bgp {peer.shown} {peer.neighbor}", peer.why)])

    # what is told ----------------------------------------------------------------------------------

    def status(self) -> BgpStatus:
        """Everything but the routes."""
        told = self._told()
        if told.speaker is None:
            return BgpStatus()
        speaker = told.speaker
        peers = tuple(
            self._peer(one) for session in speaker.sessions for one in called(session, self._sessions)
        )
        return BgpStatus(
            version=self._version,
            pid=self.process.pid(),
            router_id=speaker.router_id,
            local_as=speaker.sessions[0].local_as if speaker.sessions else 0,
            own=speaker.own,
            advertised=speaker.advertised,
            reflector=speaker.reflector,
            draining=speaker.draining,
            peers=peers,
            problems=tuple(self._problems(told, peers)),
        )

    def _problems(self, told: Told, peers: tuple[PeerStatus, ...]) -> list[str]:
        found = [*told.notes]
        found += [self._trouble] if self._trouble is not None else []
        waits, lives = self._retry_at - time.monotonic(), time.monotonic() - self._started
        if self._deaths > 1 and (waits > 0 or lives < CALM):
            ended = f"it has ended {self._deaths} times in a row, its routes are kept"
            again = f"next start in {waits:.0f} s" if waits > 0 else f"at work again for {lives:.0f} s"
            found.append(Note("BIRD", ended, f"{again}; see {self.process.log}"))
        if self.process.pid() is None or lives < SETTLING:
            return fold(found)  # no session is, or is up yet, and of none there is anything to say
        now = time.time()
        ailing = [peer for peer in peers if self._ails(peer, now)]
        if told.speaker is not None:  # who is beyond a router is lost with it: after it
            far = {session.neighbor for session in told.speaker.sessions if session.multihop}
            ailing.sort(key=lambda peer: peer.neighbor in far)
        # by address: a node of both families has two
        return fold([*found, *(Note(f"BGP session with {p.shown} ({p.neighbor})", p.why) for p in ailing)])

    def _ails(self, peer: PeerStatus, now: float) -> bool:
        """Whether a session is not as it should be, longer than it takes to come up or again and again."""
        lost = self._history.lost_lately(peer.name, now)
        return bool(peer.why) and (peer.since < now - 2 * POLL or lost >= OFTEN)

    def _peer(self, session: Session) -> PeerStatus:
        now = time.time()
        seen, bfd = self._sessions.get(session.name), self._bfd.get(session.neighbor)
        clues = Clues(
            bfd=bfd.state if bfd is not None else "",
            lost=self._history.lost_lately(session.name, now),
            known=self._history.flaps(session.name) > 0,
            unsigned=self._md5.grown[0],
            signed=self._md5.grown[1],
        )
        return PeerStatus(
            name=session.name,
            description=session.description,
            neighbor=session.neighbor,
            remote_as=session.remote_as,
            state=self._states.get(session.name, "-"),
            since=self._history.since(session.name, now),
            why=self._why(session, clues),
            flaps=self._history.flaps(session.name),
            bfd=clues.bfd,
            channels=seen.channels if seen is not None else {},
        )

    def _why(self, session: Session, clues: Clues) -> str:
        """Details may be older than states, which are looked at more often."""
        if session.name in self._watch_over.dead:
            return DEAD
        if self._pidfd < 0:
            return NONE
        seen, up = self._sessions.get(session.name), not self.down(session.name)
        if up and (seen is None or not seen.established):
            return ""
        if seen is not None:
            seen = msgspec.structs.replace(seen, state=self._states.get(session.name, seen.state))
        return why(session, seen, clues)

    async def routes(self) -> list[BgpRoute]:
        """Every route that a session brought; [] without BIRD."""
        if self.process.pid() is None:
            return []
        return await self.process.client.routes()


def require_port(speaker: Speaker) -> None:
    """Raises Conflict where somebody else listens at the addresses that BIRD is to listen at."""
    places = sorted({session.local for session in speaker.sessions}) if speaker.strict else [""]
    for address in places:
        taken = listeners.find("tcp", address, speaker.port)
        if taken is not None:
            fix = "stop it, or give another port or place in the BGPConfiguration: spec.port, spec.listen"
            raise Conflict(f"TCP port {speaker.port} is taken by {taken}", "BIRD", fix)


def _learned() -> bool:
    """Whether routes of an earlier BIRD are in the kernel, worth keeping."""
    from podway.kernel.rtnetlink import Rtnetlink
    from podway.model import bgp
    from podway.model.objects import Route

    socket = Rtnetlink()
    try:
        routes = socket.dump("route", protocol=bgp.PROTOCOL).values()
        return any(isinstance(route, Route) and bgp.is_learned(route) for route in routes)
    finally:
        socket.close()

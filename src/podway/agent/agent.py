"""The agent: an asyncio loop around the synchronous engine of one node.

Kernel events and store events only mark things dirty; one job on the writer thread observes, plans,
diffs and repairs. CNI calls run on the same thread, ahead of everything else. Idle, it wakes for a
heartbeat: sysctls change without an event.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

from podway.agent import choices, liveness, metrics
from podway.agent.calls import Calls
from podway.agent.dhcp import Leases
from podway.agent.dirty import FACTS, SILENT
from podway.agent.duties import Duties, seen
from podway.agent.echo import EchoService
from podway.agent.health import Health
from podway.agent.kernel_events import EVERYTHING, KernelEvents
from podway.agent.leases import LeaseFollower
from podway.agent.liveness import Liveness
from podway.agent.logs import configure
from podway.agent.notify import notify, watchdog_interval
from podway.agent.pace import Pace
from podway.agent.pages import AgentPages
from podway.agent.proofs import Proofs
from podway.agent.reports import AgentStatus, PeerPath
from podway.agent.speaker import BirdKeeper
from podway.agent.status import describe, leases
from podway.agent.writer import BULK, POD, REPAIR, Writer
from podway.cni import home
from podway.cni.server import Server
from podway.controller.controller import Seen
from podway.model.errors import PodwayError
from podway.model.objects import Key
from podway.node.database import JournalEntry
from podway.node.engine import NodeEngine, open_engine
from podway.node.reconciler import Noticed, Report
from podway.plan.narrow import Holes
from podway.plan.path import Chosen, PathKey
from podway.probe.echo import PORT as PROBE_PORT
from podway.probe.echo import Echo
from podway.store.mirror import Mirror

HEARTBEAT = 10.0  # seconds between looks at what changes without an event
SETTLE = 0.001  # seconds that events gather before a repair: a flap is many events
BURY = 0.02  # seconds that doomed links gather before they are deleted together
AGAIN = 2.0  # seconds until a failed pass is tried again
STORE_FIRST = 3.0  # seconds that a start waits for the store before it works on what it knew last
LEAVE = 0.5  # seconds at most that an end waits for the store to let another act for the cluster
SECOND_AGENT = 2.0  # seconds to wait for an in-process call that holds the writer lock


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says. ``listen`` "" is no TCP port at all."""

    node: str
    store: str
    state_dir: str
    socket: str
    listen: str = "127.0.0.1:9177"
    probe_port: int = PROBE_PORT
    log_level: str = "info"


class Agent:
    """One node's agent; ``run`` returns at SIGTERM or SIGINT, leaving the data path as it is."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._log = configure(options.log_level)
        self._dirty: set[str] = set()
        self._noticed: dict[Key, Noticed] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._started = time.time()
        self._mirror = Mirror(options.store, options.node)
        self._pace = Pace()
        self._liveness = Liveness()
        self._synchronizing = self._news = False
        self._funeral: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Serve until told to stop. Raises Unavailable when another agent serves this node."""
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stop.set)
        self._writer, self._undertaker = Writer(self._loop, "writer"), Writer(self._loop, "undertaker")
        stack = contextlib.ExitStack()
        try:
            self._mirror.start()
            # Events are heard before the first look, so that nothing falls between.
            self._events = KernelEvents(
                self._loop, self._mark, lambda: self._later("learn", SETTLE, self._resynchronize)
            )
            self._engine = await self._writer.submit(POD, lambda: stack.enter_context(self._open()))
            port = self._options.probe_port
            self._health = Health(
                self._loop, self._engine, port, self._narrow, lambda: self._liveness.suspect
            )
            # before a pass ends, of a pod's call or otherwise: these are told after it
            self._echo = EchoService(self._options.node, port, self._heard)
            self._proofs = Proofs(self._loop, self._echo, self._options.node, port, self._choose)
            directory = Path(self._options.state_dir) / "bird"
            self._bird = BirdKeeper(
                self._loop, directory, lambda: self._engine.speaker, self._handed_over, self._note
            )
            self._duties = Duties(self._loop, self._options.node, self._mirror, self._seen)
            self._leases = LeaseFollower(
                self._loop, self._engine.flannel, self._engine.cluster, self._resynchronize
            )
            self._dhcp = Leases(self._loop, self._engine, self._writer)
            home.claim(self._options.state_dir)
            await self._serve()
        finally:
            self._undertaker.stop()
            self._mirror.stop()
            await self._writer.submit(BULK, stack.close)
            self._writer.stop()

    def _open(self) -> contextlib.AbstractContextManager[NodeEngine]:
        options = self._options
        self._mirror.wait(STORE_FIRST)
        self._session = self._mirror.session()
        return open_engine(
            options.node, options.state_dir, options.store, SECOND_AGENT, lambda _: self._session
        )

    async def _serve(self) -> None:
        calls = Calls(self._writer, self._events, self._engine, self._session, self._bury_later)
        server = Server(self._options.socket, calls.carry_out)
        await server.start()
        shown = AgentPages(
            self._describe, self._paths_now, lambda: leases(self._engine), self._health, self._bird
        )
        admin = Path(self._options.socket).with_name("agent.sock")
        pages = await shown.start(admin, self._options.listen)
        self._echo.start(self._loop)
        # peers prove their way to a new block at once: whoever answers them must be there before it
        await self._writer.submit(POD, self._engine.claim_ahead)
        self._health.start()
        self._loop.add_reader(self._mirror.fileno(), self._store_event)
        self._proofs.start()
        self._follow_targets()
        self._step_later()
        self._look_for_life()
        self._bird.follow()
        self._duties.start()
        self._dhcp.start()
        self._events.listen(self._engine)
        self._loop.call_later(HEARTBEAT, self._heartbeat)
        self._watchdog()
        notify("READY=1")
        self._log.info("ready", extra={"node": self._options.node, "socket": self._options.socket})
        try:
            await self._stop.wait()
            notify("STOPPING=1")
            self._log.info("stopping")
            await self._duties.stop(LEAVE)
        finally:
            calls.stop()
            self._dhcp.stop()
            await server.close()
            self._health.stop()
            self._proofs.stop()
            self._echo.stop()
            self._loop.remove_reader(self._mirror.fileno())
            self._leases.close()
            self._bird.stop()
            for page in pages:
                page.close()
            for timer in self._timers.values():
                timer.cancel()

    # burials ---------------------------------------------------------------------------------

    def _bury_later(self) -> None:
        if self._engine.attachments.burial.due and self._funeral is None:
            self._later("bury", BURY, self._bury)

    def _bury(self) -> None:
        self._funeral = self._loop.create_task(self._burial())
        self._funeral.add_done_callback(self._buried)

    async def _burial(self) -> None:
        """Links are deleted on a thread of their own, so that no ADD waits for the kernel's patience."""
        burial = self._engine.attachments.burial
        stale = await self._writer.submit(REPAIR, burial.begin)
        await self._undertaker.submit(BULK, lambda: burial.carry_out(stale))
        await self._writer.submit(REPAIR, burial.finish)

    def _buried(self, funeral: asyncio.Task[None]) -> None:
        self._funeral = None
        self._finish(funeral)
        self._bury_later()

    # damage ----------------------------------------------------------------------------------

    def _mark(self, kinds: frozenset[str], key: Key | None, who: str) -> None:
        """Remember what to look at, and look once events have settled."""
        self._dirty |= kinds
        if key is not None:
            self._noticed.setdefault(key, Noticed(time.time(), who))
        self._later("repair", SETTLE, self._repair)

    def _repair(self) -> None:
        kinds, self._dirty = self._dirty, set()
        noticed, self._noticed = self._noticed, {}

        def job() -> Report:
            more = self._engine.refresh_facts() if FACTS in kinds else set()
            return self._engine.reconciler.run((kinds - {FACTS}) | more, noticed)

        self._detached(self._writer.submit(REPAIR, job))

    # the store -------------------------------------------------------------------------------

    def _store_event(self) -> None:
        kinds = self._mirror.drain()
        if kinds - {"Alive"}:
            self._resynchronize()
        else:
            self._look_for_life()

    def _look_for_life(self) -> None:
        """Whose agent is heard of no more, or again: noted, and nothing else."""
        registered = [node.name for node in self._engine.cluster.snapshot.nodes.values() if node.paths]
        before, self._liveness = self._liveness, self._liveness.step(registered, self._mirror.alive)
        turned = liveness.changes(before, self._liveness, registered)
        for node, state in turned:
            self._log.warning("a node's agent", extra={"node": node, "state": state})
            self._health.doubt(node)
        self._note((state, f"node {node}", "") for node, state in turned)

    def _note(self, happened: Iterable[tuple[str, str, str]]) -> None:
        """Write (what, with whom, why) into the journal."""
        entries = [JournalEntry(time.time(), what, who, why, 0.0, "") for what, who, why in happened]
        if entries:
            self._detached(self._writer.submit(BULK, lambda: self._engine.database.journal_add(entries)))

    def _resynchronize(self) -> None:
        """Take in what the store holds; what comes meanwhile is taken in together, after it."""
        if self._synchronizing:
            self._news = True
            return

        started = self._loop.time()

        def done(future: asyncio.Future[Report]) -> None:
            self._finish(future)
            self._step_later()
            self._leases.follow()
            self._look_for_life()
            self._bird.follow()
            self._duties.follow()
            self._loop.call_later(self._pace.rest(started, self._loop.time()), self._rested)

        self._synchronizing, self._news = True, False
        self._writer.submit(BULK, self._engine.follow_store).add_done_callback(done)

    def _rested(self) -> None:
        self._synchronizing = False
        if self._news:
            self._resynchronize()

    def _step_later(self) -> None:
        """A change of ways that goes on by itself."""
        if self._engine.next_step is not None:
            self._later("step", max(0.0, self._engine.next_step - time.monotonic()), self._resynchronize)

    def _narrow(self, holes: Holes) -> None:
        self._detached(self._writer.submit(REPAIR, lambda: self._engine.narrow(holes)))

    # paths -----------------------------------------------------------------------------------

    def _heard(self, answer: Echo, sender: str, asked: str) -> None:
        self._proofs.heard(answer)

    def _follow_targets(self) -> None:
        """What has to be proved changes with the plan alone."""
        inputs = self._engine.planner.inputs
        uplinks = [uplink.name for uplink in inputs.facts.uplinks]
        self._proofs.follow(self._engine.planner.targets, inputs.paths, uplinks)

    def _choose(self, chosen: dict[PathKey, Chosen | None]) -> None:
        def done(future: asyncio.Future[Report | None]) -> None:
            self._finish(future)
            if self._engine.next_step is not None and self._engine.next_step <= time.monotonic():
                self._resynchronize()

        self._writer.submit(REPAIR, lambda: self._engine.choose(chosen)).add_done_callback(done)

    # the cluster's duties ----------------------------------------------------------------------

    def _seen(self) -> Seen | None:
        return seen(self._engine, self._liveness.suspect | self._bird.unheard() | self._health.dead())

    def _handed_over(self, generation: int) -> None:
        self._detached(self._writer.submit(BULK, lambda: self._engine.cluster.tell_sessions(generation)))

    # time ------------------------------------------------------------------------------------

    def _heartbeat(self) -> None:
        self._loop.call_later(HEARTBEAT, self._heartbeat)

        self._detached(self._writer.submit(BULK, lambda: self._engine.sweep(SILENT)))

    def _watchdog(self) -> None:
        interval = watchdog_interval()
        if interval is not None:
            # by way of the writer: an agent whose writer hangs serves nobody, however well its loop turns
            turn = self._writer.submit(POD, lambda: None)
            turn.add_done_callback(lambda _: notify("WATCHDOG=1"))
            self._loop.call_later(interval, self._watchdog)

    def _later(self, name: str, delay: float, action: Callable[[], None]) -> None:
        """At most one pending timer of a name, the soonest that was asked for."""
        pending, now = self._timers.get(name), self._loop.time()
        if pending is not None and not pending.cancelled() and pending.when() > now:
            if pending.when() <= now + delay:
                return
            pending.cancel()
        self._timers[name] = self._loop.call_later(delay, action)

    # results ---------------------------------------------------------------------------------

    def _detached(self, future: asyncio.Future[Any]) -> None:
        future.add_done_callback(self._finish)

    def _finish(self, future: asyncio.Future[Any]) -> None:
        """Note what a pass did; a failed pass is tried again, never fatal."""
        error = future.exception()
        if error is not None:
            known = isinstance(error, PodwayError | OSError)
            self._log.error("pass failed", extra={"why": str(error)}, exc_info=None if known else error)
            self._dirty |= EVERYTHING
            self._later("repair", AGAIN, self._repair)
            return
        report = future.result()
        self._follow_targets()
        if report is None:
            return
        self._health.looked()
        metrics.count_report(report)
        for result in report.failures:
            self._log.error("kernel refused", extra={"key": " ".join(result.op.key), "why": result.error})
        for key, why in report.waiting.items():
            self._log.warning("backing off", extra={"key": " ".join(key), "why": why})
        if report.retry_at is not None:
            self._dirty |= {key[0] for key in report.waiting}
            self._later("retry", max(0.0, report.retry_at - time.time()) + 0.01, self._repair)

    # what is shown ---------------------------------------------------------------------------

    def _describe(self) -> AgentStatus:
        made = describe(self._engine, self._started, self._health, self._liveness, self._bird.status())
        return msgspec.structs.replace(made, paths=self._proofs.counts(), controller=self._duties.lease)

    def _paths_now(self) -> tuple[PeerPath, ...]:
        return choices.describe(self._engine.planner, self._proofs, self._loop.time())

"""Drives the paths' state machines: sends what they ask for, hands them what comes, keeps their time.

Lives on the event loop; decisions go to the writer through ``decide``. One timer for all paths. While all
is well a path is asked again every ``path.WATCH`` seconds, or less often where there are many: never more
than ``A_SECOND`` in a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import logging
import random
from collections.abc import Callable, Collection, Iterable, Mapping

import msgspec

from podway.agent.echo import EchoService
from podway.kernel.next_hops import NextHops
from podway.plan import path
from podway.plan.path import Chosen, Pace, PathKey, State
from podway.plan.targets import Targets
from podway.probe import echo, neighbours
from podway.probe.echo import Echo, Kind
from podway.probe.packets import datagram
from podway.probe.segment import Segment, Told

A_SECOND = 5
AT_ONCE = 5000  # first attempts a second, when many peers are silent together
BURST = 20  # deadlines before the loop gets a turn
REMEMBERED = 4  # attempts whose late answers still count

Decide = Callable[[dict[PathKey, Chosen | None]], None]


class Question(msgspec.Struct, frozen=True):
    """What a nonce was sent for."""

    key: PathKey
    inside: bool


class Proofs:
    """``states`` is what is known of each path; times are the loop's.

    ``service`` sends questions by the kernel's own routes. Nothing is followed before ``start``."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        service: EchoService,
        node: str,
        port: int,
        decide: Decide,
    ) -> None:
        self.states: dict[PathKey, State] = {}
        self._loop = loop
        self._service = service
        self._node = node
        self._port = port
        self._decide = decide
        self._segments: dict[str, Segment] = {}
        self._by_address: dict[tuple[str, str], set[PathKey]] = {}
        self._questions: dict[int, Question] = {}
        self._asked: dict[PathKey, list[int]] = {}
        self._heap: list[tuple[float, PathKey]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._decided: dict[PathKey, Chosen | None] = {}
        self._open: set[PathKey] = set()  # what an attempt is under way for
        self._version = -1
        self._log = logging.getLogger("podway")
        self._answers: frozenset[str] = frozenset()  # in own blocks
        self._hops = NextHops()
        self._started = False

    def start(self) -> None:
        """Begin to ask; ask again, too, when the kernel comes to know something of a next hop."""
        self._started = True
        self._loop.add_reader(self._hops.fileno(), self._news)

    def stop(self) -> None:
        """Let go of sockets and timers."""
        if self._timer is not None:
            self._timer.cancel()
        for dev in list(self._segments):
            self._leave(dev)
        self._loop.remove_reader(self._hops.fileno())
        self._hops.close()

    # what is to be proved -----------------------------------------------------------------------

    def follow(self, wanted: Targets, chosen: Mapping[PathKey, Chosen], uplinks: Collection[str]) -> None:
        """Take in what there is to prove now. ``chosen``: what the plan holds for a path not yet known."""
        if not self._started:
            return
        self._hops.watch(uplinks)
        self._answers = frozenset(wanted.answers.values())
        self._listen(uplinks if self._answers else ())
        if wanted.version == self._version:
            return
        self._version, targets = wanted.version, dict(wanted.by_path)
        for key in [key for key in self.states if key not in targets]:
            self._forget(key)
        for key, target in targets.items():
            known = self.states.get(key)
            if known is None:
                found = chosen.get(key)
                stood = found is not None and found.choice == "direct"
                self._take(key, None, path.begin(target, stood, self._loop.time()))
            elif known.target != target:
                self._step(key, path.Declared(target))

    def _forget(self, key: PathKey) -> None:
        state = self.states.pop(key)
        self._by_address.get((state.target.dev, state.target.address), set()).discard(key)
        for nonce in self._asked.pop(key, []):
            self._questions.pop(nonce, None)
        self._open.discard(key)
        self._choose(key, None)

    def _listen(self, uplinks: Iterable[str]) -> None:
        """Peers' questions come by these, to addresses that may not be this machine's own."""
        for dev in uplinks:
            with contextlib.suppress(OSError):
                self._segment(dev)

    # what comes ---------------------------------------------------------------------------------

    def _news(self) -> None:
        """The kernel has come to know something of neighbours: ask again where it speaks against the path."""
        for dev, address, mac in self._hops.read():
            for key in list(self._by_address.get((dev, address), ())):
                state = self.states[key]
                if (mac in state.target.macs) != (state.path.choice == "direct"):
                    self._step(key, path.Suspected())

    def heard(self, answer: Echo) -> None:
        """An answer to a question of ours, by whatever way."""
        question = self._questions.get(answer.nonce)
        if question is not None and answer.kind is Kind.ANSWER and question.key in self.states:
            is_peer = answer.sender == question.key.node[: echo.MAX_NAME]
            if answer.intact and is_peer:
                self._step(question.key, path.Echoed(question.inside))

    def _read(self, dev: str, fileno: int) -> None:
        try:
            for found in self._segments[dev].read(fileno):
                if isinstance(found, Told):
                    for key in list(self._by_address.get((dev, found.address), ())):
                        self._step(key, path.Heard(found.mac))
                elif found.echo.kind not in echo.QUESTIONS:
                    self.heard(found.echo)
                elif found.target in self._answers:
                    self._service.reply(found.echo, found.source, found.target)
        except OSError:
            self._leave(dev)

    # steps --------------------------------------------------------------------------------------

    def _step(self, key: PathKey, event: path.Event) -> None:
        before = self.states[key]
        # not all at once when they began together
        watch = max(path.WATCH, len(self.states) / A_SECOND) * random.uniform(0.75, 1.25)
        pace = Pace(max(path.FIRST, len(self._open) / AT_ONCE), watch)
        self._take(key, before, path.step(before, event, self._loop.time(), pace))

    def _take(self, key: PathKey, before: State | None, state: State) -> None:
        self.states[key] = state
        (self._open.add if state.asking else self._open.discard)(key)
        old = before.target if before else None
        if old is None or (old.dev, old.address) != (state.target.dev, state.target.address):
            if old is not None:
                self._by_address.get((old.dev, old.address), set()).discard(key)
            self._by_address.setdefault((state.target.dev, state.target.address), set()).add(key)
        if state.deadline is not None and (before is None or before.deadline != state.deadline):
            heapq.heappush(self._heap, (state.deadline, key))
            self._wind()
        if before is None or before.path != state.path:
            self._choose(key, state.path)
        if before is not None and before.path.choice != state.path.choice:
            words = {"peer": key.node, "network": key.network, "family": key.family, "why": state.path.reason}
            self._log.info("path", extra=words | {"path": state.path.choice})
        if state.asking and (before is None or before.attempt != state.attempt):
            self._ask(key, state)

    def counts(self) -> dict[str, int]:
        """How many paths are direct, through a tunnel, or none."""
        found = dict.fromkeys(("direct", "tunnel", "none"), 0)
        for state in self.states.values():
            found[state.path.choice] += 1
        return found

    def _choose(self, key: PathKey, chosen: Chosen | None) -> None:
        if not self._decided:
            self._loop.call_soon(self._tell)
        self._decided[key] = chosen

    def _tell(self) -> None:
        decided, self._decided = self._decided, {}
        self._decide(decided)

    def _wind(self) -> None:
        if not self._heap:
            return
        due = self._heap[0][0]
        if self._timer is not None and not self._timer.cancelled() and self._timer.when() <= due:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(due, self._ring)

    def _ring(self) -> None:
        self._timer = None
        now = self._loop.time()
        for _ in range(BURST):
            if not self._heap or self._heap[0][0] > now:
                break
            deadline, key = heapq.heappop(self._heap)
            state = self.states.get(key)
            if state is not None and state.deadline == deadline:
                self._step(key, path.Due())
        self._wind()

    # asking -------------------------------------------------------------------------------------

    def _ask(self, key: PathKey, state: State) -> None:
        target = state.target
        asked = self._asked.setdefault(key, [])
        while len(asked) >= REMEMBERED:
            self._questions.pop(asked.pop(0), None)
        try:
            segment = self._segment(target.dev)
            own = segment.mac
            at = "" if state.is_doubtful else state.proved_mac
            segment.send(neighbours.ask(target.address, target.source, own, at))
            question = echo.encode(self._question(key, asked, inside=True))
            for mac in (at,) if at else target.macs:
                segment.send(datagram(mac, own, target.source, target.inside, self._port, question))
        except OSError:
            self._leave(target.dev)  # as good as no answer; the next attempt opens it anew
        if state.failures:
            self._service.ask(self._question(key, asked, inside=False), target.address)

    def _question(self, key: PathKey, asked: list[int], inside: bool) -> Echo:
        nonce = random.getrandbits(64)
        asked.append(nonce)
        self._questions[nonce] = Question(key, inside)
        return Echo(kind=Kind.QUESTION, nonce=nonce, sender=self._node)

    def _segment(self, dev: str) -> Segment:
        if dev not in self._segments:
            made = Segment(dev, self._port)
            self._segments[dev] = made
            for fileno in made.filenos():
                self._loop.add_reader(fileno, self._read, dev, fileno)
        return self._segments[dev]

    def _leave(self, dev: str) -> None:
        segment = self._segments.pop(dev, None)
        if segment is not None:
            for fileno in segment.filenos():
                self._loop.remove_reader(fileno)
            segment.close()

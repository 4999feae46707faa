"""Tells a node that died from a BIRD that is away, and takes a dead one's routes out of BIRD.

With ``bfd graceful`` BIRD keeps a lost neighbour's routes: it may only be starting anew. BFD can't tell that
from a death, for it runs in BIRD; but the neighbour's kernel answers echo requests meanwhile. So whoever BFD
lost is asked at once, and again for as long as BIRD keeps its routes, since it may die after its BIRD. If
nothing comes back its session is disabled until it answers again, or may call again for it may live where
echo requests are dropped. A BGPPeer's is enabled again at once, for a router need not answer at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import re
import secrets
import socket
from collections import defaultdict
from collections.abc import Collection, Mapping

from podway.bird.client import Client
from podway.model.bgp import Session
from podway.model.errors import PodwayError
from podway.model.objects import family_of
from podway.probe import ping

TRIES, WAIT = 3, 0.03  # echo requests, seconds apart
PATIENT = 10  # echo requests to one that answered before: asked often, it may not be given up for a few lost
AGAIN = 0.5  # seconds between looks at a dead one, and until BIRD is listened to anew
SELDOM = 4.0  # seconds at most between looks at one that lives, whose BIRD is away for longer
MERCY = 10.0  # seconds after which a node that answers nothing may call again
LOST = re.compile(r"(\w+): BFD session down")

_log = logging.getLogger("podway.bgp")


def watched(session: Session) -> bool:
    """Whether the death of whom a session is with is this module's to find out."""
    return session.bfd == "graceful" and not session.dynamic


class DeathWatch:
    """Lives on the event loop. ``dead``: names of sessions whose neighbour does not answer; ``judging``: of
    those that are asked."""

    def __init__(self, loop: asyncio.AbstractEventLoop, client: Client) -> None:
        self._loop = loop
        self._client = client
        self._neighbors: dict[str, str] = {}
        self._nodes: frozenset[str] = frozenset()
        self._listener: asyncio.Task[None] | None = None
        self.judging: dict[str, asyncio.Task[None]] = {}
        self._alarms: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.dead: set[str] = set()

    def follow(self, sessions: Collection[Session], states: Mapping[str, str]) -> None:
        """Watch exactly these, of which BIRD says that; one that an earlier agent disabled is taken over."""
        self._neighbors = {one.name: one.neighbor for one in sessions if watched(one)}
        self._nodes = frozenset(one.name for one in sessions if one.node)
        if self._neighbors and self._listener is None:
            self._listener = self._loop.create_task(self._listen())
        if not self._neighbors:
            self.stop()
        for name in self._neighbors.keys() - self.judging.keys():
            if states.get(name) == "Down":
                self._judge(name)

    def stop(self) -> None:
        """Let go; what is disabled stays so, for a successor."""
        for task in (self._listener, *self.judging.values()):
            if task is not None:
                task.cancel()
        self._listener = None

    async def _listen(self) -> None:
        while True:
            try:
                async for line in self._client.traces():
                    # what was lost before it was listened to is not told again
                    found = LOST.findall(line) if line else await self._client.keeping()
                    for name in found:
                        self._judge(name)
            except (OSError, PodwayError):
                pass  # it is being started anew, or hangs
            await asyncio.sleep(AGAIN)

    def _judge(self, name: str) -> None:
        if name not in self._neighbors:
            return
        self._alarms[name].set()
        if name in self.judging:
            return
        task = self.judging[name] = self._loop.create_task(self._bury(name, self._neighbors[name]))
        task.add_done_callback(lambda _: self.judging.pop(name, None))

    async def _bury(self, name: str, neighbor: str) -> None:
        if await self._dies(name, neighbor):
            self.dead.add(name)
            await self._tell(f'disable "{name}"')
            _log.warning("a neighbour is dead, its routes are withdrawn", extra={"address": neighbor})
            end = self._loop.time() + (MERCY if name in self._nodes else 0)
            while self._loop.time() < end and self._neighbors.get(name) == neighbor:
                if await answers(neighbor, TRIES):
                    break
                await asyncio.sleep(AGAIN)
        self.dead.discard(name)
        await self._tell(f'enable "{name}"')

    async def _dies(self, name: str, neighbor: str) -> bool:
        """Asks a neighbour until it does not answer, or BIRD keeps none of its routes (any more)."""
        if not await answers(neighbor, TRIES):
            return True
        alarm, pause = self._alarms[name], AGAIN
        while await self._keeps(name, neighbor):
            alarm.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(random.uniform(pause / 2, pause)):  # nodes must not ask in step
                    await alarm.wait()
            tries, pause = (TRIES, AGAIN) if alarm.is_set() else (PATIENT, min(2 * pause, SELDOM))
            if await self._keeps(name, neighbor) and not await answers(neighbor, tries):
                return True
        return False

    async def _keeps(self, name: str, neighbor: str) -> bool:
        if self._neighbors.get(name) != neighbor:
            return False
        try:
            return name in await self._client.keeping(name)
        except PodwayError:
            return False  # one that starts anew, or the session is no more

    async def _tell(self, command: str) -> None:
        try:
            await self._client.ask(command)
        except PodwayError as error:  # one that starts anew begins with every session enabled
            _log.warning("BIRD was not told", extra={"command": command, "why": str(error)})


async def answers(address: str, tries: int) -> bool:
    """Whether an address answers one of a few echo requests. An event loop that is busy finds the answer
    late, but it finds it."""
    family = family_of(address)
    kind, protocol = (
        (socket.AF_INET, socket.IPPROTO_ICMP) if family == 4 else (socket.AF_INET6, socket.IPPROTO_ICMPV6)
    )
    identifier = secrets.randbits(16)
    with socket.socket(kind, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol) as made:
        for number in range(tries):
            with contextlib.suppress(OSError):  # no route now, or an error that came back for an earlier one
                made.connect((address, 0))
                made.send(ping.request(family, identifier, number))
            await asyncio.sleep(WAIT)
            with contextlib.suppress(OSError):  # nothing (more) has come, or such an error
                while True:
                    if ping.is_reply(family, made.recv(2048), identifier):
                        return True
    return False

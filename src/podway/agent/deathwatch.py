"""Tells a node that died from a BIRD that is away, and takes a dead one's routes out of BIRD.

With ``bfd graceful`` BIRD keeps a lost neighbour's routes: it may only be starting anew. BFD can't tell that
from a death, for it runs in BIRD; but the neighbour's kernel answers echo requests meanwhile. So whoever BFD
lost is asked at once, and if nothing comes back its session is disabled until it answers again. A BGPPeer's
is enabled again at once, for a router need not answer at all.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import socket
from collections.abc import Collection, Mapping

from podway.bird.client import Client
from podway.model.bgp import Session
from podway.model.errors import PodwayError
from podway.model.objects import family_of
from podway.probe import ping

TRIES, WAIT = 3, 0.03  # echo requests, seconds apart
AGAIN = 0.5  # seconds between looks at a dead one, and until BIRD is listened to anew
LOST = re.compile(r"(\w+): BFD session down")

_log = logging.getLogger("podway.bgp")


def watched(session: Session) -> bool:
    """Whether the death of whom a session is with is this module's to find out."""
    return session.bfd == "graceful" and not session.dynamic


class DeathWatch:
    """Lives on the event loop. ``dead``: names of sessions whose neighbour does not answer."""

    def __init__(self, loop: asyncio.AbstractEventLoop, client: Client) -> None:
        self._loop = loop
        self._client = client
        self._neighbors: dict[str, str] = {}
        self._nodes: frozenset[str] = frozenset()
        self._listener: asyncio.Task[None] | None = None
        self._judging: dict[str, asyncio.Task[None]] = {}
        self.dead: set[str] = set()

    def follow(self, sessions: Collection[Session], states: Mapping[str, str]) -> None:
        """Watch exactly these, of which BIRD says that; one that an earlier agent disabled is taken over."""
        self._neighbors = {one.name: one.neighbor for one in sessions if watched(one)}
        self._nodes = frozenset(one.name for one in sessions if one.node)
        if self._neighbors and self._listener is None:
            self._listener = self._loop.create_task(self._listen())
        if not self._neighbors:
            self.stop()
        for name in self._neighbors.keys() - self._judging.keys():
            if states.get(name) == "Down":
                self._judge(name)

    def stop(self) -> None:
        """Let go; what is disabled stays so, for a successor."""
        for task in (self._listener, *self._judging.values()):
            if task is not None:
                task.cancel()
        self._listener = None

    async def _listen(self) -> None:
        while True:
            try:
                async for line in self._client.traces():
                    found = LOST.search(line)
                    if found:
                        self._judge(found[1])
            except (OSError, PodwayError):
                pass  # it is being started anew: nobody's routes are in question meanwhile
            await asyncio.sleep(AGAIN)

    def _judge(self, name: str) -> None:
        if name not in self._neighbors or name in self._judging:
            return
        task = self._judging[name] = self._loop.create_task(self._bury(name, self._neighbors[name]))
        task.add_done_callback(lambda _: self._judging.pop(name, None))

    async def _bury(self, name: str, neighbor: str) -> None:
        if not await answers(neighbor):
            self.dead.add(name)
            await self._tell(f'disable "{name}"')
            _log.warning("a neighbour is dead, its routes are withdrawn", extra={"address": neighbor})
            while (
                name in self._nodes and self._neighbors.get(name) == neighbor and not await answers(neighbor)
            ):
                await asyncio.sleep(AGAIN)
        self.dead.discard(name)
        await self._tell(f'enable "{name}"')

    async def _tell(self, command: str) -> None:
        try:
            await self._client.ask(command)
        except PodwayError as error:  # one that starts anew begins with every session enabled
            _log.warning("BIRD was not told", extra={"command": command, "why": str(error)})


async def answers(address: str) -> bool:
    """Whether an address answers one of a few echo requests."""
    loop = asyncio.get_running_loop()
    family = family_of(address)
    kind, protocol = (
        (socket.AF_INET, socket.IPPROTO_ICMP) if family == 4 else (socket.AF_INET6, socket.IPPROTO_ICMPV6)
    )
    identifier = secrets.randbits(16)
    with socket.socket(kind, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol) as made:
        for number in range(TRIES):
            try:
                made.connect((address, 0))
                made.send(ping.request(family, identifier, number))
                async with asyncio.timeout(WAIT):
                    while not ping.is_reply(family, await loop.sock_recv(made, 2048), identifier):
                        pass
                return True
            except TimeoutError:
                continue
            except OSError:
                await asyncio.sleep(WAIT)  # no route now, or an error that came back for an earlier one
    return False

"""Sends what ``podway.probe`` decides and tells it what came back: sockets and one timer, no judgement.

Two sockets a family, one of them without UDP checksums. Probes leave from a port of the agent's own,
carry DF whatever was learned of the path, and take the kernel's own routes. Errors that come back by ICMP
are read from the error queue: "nobody listens there" is an answer too.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import logging
import secrets
import socket
import struct
import time
from collections import Counter, deque
from collections.abc import Callable, Collection

import msgspec

from podway.agent.echo import (
    IP_MTU_DISCOVER,
    IPV6_MTU_DISCOVER,
    PMTUDISC_PROBE,
    UDP_NO_CHECK6_RX,
    set_unchecked,
)
from podway.kernel.counters import udp_checksum_errors
from podway.model.objects import family_of
from podway.probe import echo, verdict
from podway.probe.echo import Echo, Kind
from podway.probe.finding import Answered, Path, Reply, Shot
from podway.probe.rotation import Rotation
from podway.probe.verdict import Peer

TIMEOUT = 1.0  # seconds that a round waits for answers
MEMORY = 5.0  # seconds that a damaged datagram is remembered: longer than a small cluster's turns
BATCH = 64  # datagrams before the loop gets a turn
IP_RECVERR, IPV6_RECVERR = 11, 25  # linux/in.h, linux/in6.h


class Round(msgspec.Struct, eq=False):
    """One round that runs: what was sent, what came back so far. Times of the loop's clock."""

    peer: str
    paths: tuple[Path, ...]
    sent: tuple[Shot, ...]
    deadline: float
    replies: dict[Shot, Reply] = {}
    nonces: list[int] = []


class Damage:
    """Whether the kernel dropped datagrams for wrong checksums lately, as far as that was looked at.

    A peer's own questions come once in its turn: one that comes damaged speaks for all of them."""

    def __init__(self) -> None:
        self._count = 0
        self._looked = self._rose = -MEMORY

    def look(self, now: float) -> bool:
        """Call it while something is being found out; between such times nothing is counted."""
        count = udp_checksum_errors()
        if count > self._count and now - self._looked < MEMORY:
            self._rose = now
        self._count, self._looked = count, now
        return now - self._rose < MEMORY


class Prober:
    """``peers``: what is known of each, replaced as a whole after each of its rounds.

    ``paths`` says where to probe a peer now, ``first`` what is known before its first round; ``told`` is
    called after each round with the peer's name, the paths probed and what was known before."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        node: str,
        port: int,
        paths: Callable[[str], tuple[Path, ...]],
        first: Callable[[str, tuple[Path, ...]], Peer],
        told: Callable[[str, tuple[Path, ...], Peer], None],
    ) -> None:
        self._loop = loop
        self._node = node
        self._port = port
        self._paths = paths
        self._first = first
        self._told = told
        self.peers: dict[str, Peer] = {}
        self.counts: Counter[str] = Counter()  # "sent", "answered", "damaged", "refused"
        self._rotation = Rotation()
        self._damage = Damage()
        self._sockets: dict[tuple[int, bool], socket.socket] = {}
        self._nonces = itertools.count(secrets.randbits(62))
        self._waiting: dict[int, tuple[Round, Shot, float]] = {}
        self._rounds: deque[Round] = deque()  # all wait equally long: the first ends first
        self._timer: asyncio.TimerHandle | None = None
        self._log = logging.getLogger("podway")

    def start(self) -> None:
        """Open the sockets and begin."""
        for family in (socket.AF_INET, socket.AF_INET6):
            for checked in (True, False):
                try:
                    made = _open(family, checked)
                except OSError as error:
                    if error.errno != errno.EAFNOSUPPORT:
                        raise
                    continue  # no IPv6 on this machine
                self._sockets[4 if family == socket.AF_INET else 6, checked] = made
                self._loop.add_reader(made.fileno(), self._read, made)
        self._arm()

    def stop(self) -> None:
        """Nothing is sent any more."""
        if self._timer is not None:
            self._timer.cancel()
        for one in self._sockets.values():
            self._loop.remove_reader(one.fileno())
            one.close()
        self._sockets.clear()

    def update(self, peers: Collection[str]) -> None:
        """Who is to be probed from now on."""
        self._rotation.update(peers, self._loop.time())
        for gone in self.peers.keys() - set(peers):
            del self.peers[gone]
        self._arm()

    def soon(self, peer: str) -> None:
        """A peer's turn is now."""
        self._rotation.now(peer, self._loop.time())
        self._arm()

    # time ------------------------------------------------------------------------------------

    def _arm(self) -> None:
        times = [self._rounds[0].deadline] if self._rounds else []
        if (turn := self._rotation.next_at()) is not None:
            times.append(turn)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(min(times), self._wake) if times and self._sockets else None

    def _wake(self) -> None:
        now = self._loop.time()
        while self._rounds and self._rounds[0].deadline <= now:
            self._end(self._rounds[0])
        while (peer := self._rotation.take(now)) is not None:
            self._begin(peer, now)
        self._arm()

    def _begin(self, peer: str, now: float) -> None:
        paths = self._paths(peer)
        state = self.peers.get(peer)
        if state is None:
            state = self.peers[peer] = self._first(peer, paths)
        sent = verdict.shots(state, paths)
        if state.diagnose:
            self._damage.look(now)
        made = Round(peer, paths, sent, now + TIMEOUT)
        self._rounds.append(made)
        for shot in sent:
            self._send(made, shot)
        if not sent:
            self._end(made)

    def _end(self, ended: Round) -> None:
        self._rounds.remove(ended)
        for nonce in ended.nonces:
            self._waiting.pop(nonce, None)
        before = self.peers.get(ended.peer)
        if before is None:
            return  # the peer has gone meanwhile
        damage = before.diagnose and self._damage.look(self._loop.time())
        after = verdict.step(before, ended.paths, ended.sent, ended.replies, time.time(), damage)
        self._rotation.again(ended.peer, self._loop.time(), after.settled)
        self.peers[ended.peer] = after
        self._told(ended.peer, ended.paths, before)

    # datagrams -------------------------------------------------------------------------------

    def _send(self, running: Round, shot: Shot) -> None:
        path = next(path for path in running.paths if path.name == shot.path)
        family = family_of(path.target)
        nonce = next(self._nonces) & (1 << 64) - 1
        asked = Echo(
            kind=Kind.QUESTION if shot.checked else Kind.UNCHECKED,
            nonce=nonce,
            sender=self._node,
            size=echo.payload_for(shot.size, family),
            answer_size=echo.LEAST,
        )
        self._waiting[nonce] = (running, shot, self._loop.time())
        running.nonces.append(nonce)
        self.counts["sent"] += 1
        for _ in range(2):  # an ICMP error of an earlier probe is told to the next send, once
            try:
                self._sockets[family, shot.checked].sendto(echo.encode(asked), (path.target, self._port))
                return
            except (OSError, KeyError):
                continue  # no route, too large for the link: it stays unanswered

    def _read(self, reading: socket.socket) -> None:
        for _ in range(BATCH):
            try:
                data = reading.recv(0xFFFF)
            except BlockingIOError:
                break
            except OSError:
                self._read_errors(reading)
                continue
            answer = echo.decode(data)
            if answer is None or answer.kind in echo.QUESTIONS:
                continue
            whole = answer.kind is Kind.ANSWER and answer.intact
            self._reply(answer.nonce, "answered" if whole else "damaged", answer.sender if whole else "")
        self._read_errors(reading)

    def _read_errors(self, reading: socket.socket) -> None:
        """What routers and hosts said by ICMP of our own probes, quoting them."""
        with contextlib.suppress(OSError):
            for _ in range(BATCH):
                data, control, _, _ = reading.recvmsg(0xFFFF, 512, socket.MSG_ERRQUEUE)
                quoted = echo.decode(data)
                number = _errno_of(control)
                if quoted is not None and number == errno.ECONNREFUSED:
                    self._reply(quoted.nonce, "refused")

    def _reply(self, nonce: int, kind: Answered, by: str = "") -> None:
        found = self._waiting.pop(nonce, None)
        if found is None:
            return  # too late: its round is over
        running, shot, at = found
        if by not in ("", running.peer):
            kind = "foreign"
        self.counts[kind] += 1
        running.replies[shot] = Reply(kind, self._loop.time() - at, by)
        if len(running.replies) == len(set(running.sent)):
            self._end(running)
            self._arm()


def _open(family: int, checked: bool) -> socket.socket:
    made = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            made.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_PROBE)
            made.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
            made.setsockopt(socket.IPPROTO_UDP, UDP_NO_CHECK6_RX, 1)
        else:
            made.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_PROBE)
            made.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        set_unchecked(made, not checked)
        made.bind(("", 0))
    except BaseException:
        made.close()
        raise
    return made


def _errno_of(control: list[tuple[int, int, bytes]]) -> int:
    """ee_errno of a struct sock_extended_err (linux/errqueue.h), 0 without one."""
    for level, kind, data in control:
        if (level, kind) in ((socket.IPPROTO_IP, IP_RECVERR), (socket.IPPROTO_IPV6, IPV6_RECVERR)):
            return struct.unpack_from("=I", data)[0]  # type: ignore[no-any-return]
    return 0

"""All probes of a lab in one event loop: many at once, asked again until answered or too late.

The process holds the sockets of senders and receivers alike, so what a receiver saw needs no message
of its own: it is noted where the question is read.
"""

from __future__ import annotations

import errno
import heapq
import os
import selectors
import socket
import time
from collections.abc import Callable, Iterable, Sequence

from podway.lab import packet
from podway.lab.matrix import Outcome, Probe
from podway.lab.station import PORT, Station

WINDOW = 256  # probes under way
RETRIES = (0.1, 0.3, 0.8)  # seconds after the first question; TCP's are the kernel's
PATIENCE = 4.0  # seconds until a probe has failed; a lost SYN is sent again after 1 and 3 s
READ = 1 << 16
AGAIN = (errno.EAGAIN, errno.ENOBUFS, errno.EINTR)


class _Running:
    """One probe under way."""

    def __init__(self, probe: Probe, now: float) -> None:
        self.probe = probe
        self.started = now
        self.tries = 0
        self.seen = ""
        self.arrived_at = ""
        self.error = ""
        self.answered = False
        self.connection: socket.socket | None = None


class Prober:
    """``run`` once; then ``close``."""

    def __init__(self, stations: Sequence[Station]) -> None:
        self._stations = {station.name: station for station in stations}
        self._nonce = os.urandom(4)
        self._selector = selectors.DefaultSelector()
        self._running: dict[int, _Running] = {}
        self._timers: list[tuple[float, int]] = []
        self._outcomes: dict[int, Outcome] = {}
        self._accepted: set[socket.socket] = set()
        for station in stations:
            for family in (4, 6):
                for one in (station.udp[family], station.asking[family]):
                    self._watch(one, self._datagram, station)
                self._watch(station.icmp[family], self._icmp, station, family)
                self._watch(station.listeners[family], self._accept, station)

    def close(self) -> None:
        """Let go of what was opened here; stations are the caller's."""
        for connection in self._accepted:
            connection.close()
        self._selector.close()

    def _watch(self, one: socket.socket, action: Callable[..., None], *arguments: object) -> None:
        self._selector.register(one, selectors.EVENT_READ, (action, (one, *arguments)))

    def run(self, probes: Iterable[Probe], progress: Callable[[int], None]) -> list[Outcome]:
        """The outcome of each probe, in their order."""
        waiting = enumerate(probes)
        more = True
        while more or self._running:
            while more and len(self._running) < WINDOW:
                number, probe = next(waiting, (-1, None))
                more = probe is not None
                if probe is not None:
                    self._start(number, probe)
            self._turn()
            progress(len(self._outcomes))
        return [self._outcomes[number] for number in sorted(self._outcomes)]

    def _turn(self) -> None:
        now = time.monotonic()
        wait = max(0.0, self._timers[0][0] - now) if self._timers else 0.0
        for key, _ in self._selector.select(wait):
            action, arguments = key.data
            action(*arguments)
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            _, number = heapq.heappop(self._timers)
            if number in self._running:
                self._due(number, now)

    # asking --------------------------------------------------------------------------------------

    def _start(self, number: int, probe: Probe) -> None:
        running = self._running[number] = _Running(probe, time.monotonic())
        for name in (probe.sender, probe.receiver):
            if name not in self._stations:
                self._finish(number, f"{name} can't be entered")
                return
        if not probe.target:
            self._finish(number, f"{probe.receiver} has no IPv{probe.family} address")
        elif probe.protocol == "tcp":
            self._connect(number, running)
        else:
            self._ask(number, running)
        if number in self._running:
            self._later(number, running)

    def _later(self, number: int, running: _Running) -> None:
        retries = () if running.probe.protocol == "tcp" else RETRIES
        wait = retries[running.tries] if running.tries < len(retries) else PATIENCE
        running.tries += 1
        heapq.heappush(self._timers, (running.started + wait, number))

    def _due(self, number: int, now: float) -> None:
        running = self._running[number]
        if now - running.started >= PATIENCE:
            arrived = f"the question arrived, the answer did not within {PATIENCE} s"
            never = f"nothing arrived within {PATIENCE} s"
            stranger = f"somebody else answered for {running.probe.receiver}"
            error = stranger if running.answered else arrived if running.seen else never
            self._finish(number, running.error or error)
            return
        self._ask(number, running)
        if number in self._running:
            self._later(number, running)

    def _ask(self, number: int, running: _Running) -> None:
        probe = running.probe
        station = self._stations[probe.sender]
        data = packet.payload(self._nonce, packet.QUESTION, number, probe.size)
        try:
            if probe.protocol == "icmp":
                message = packet.echo(probe.family, data, int.from_bytes(self._nonce[:2], "big"))
                station.icmp[probe.family].sendto(message, (probe.target, 0))
            else:
                station.asking[probe.family].sendto(data, (probe.target, PORT))
        except OSError as error:
            if error.errno in AGAIN:
                running.error = _words(error.errno)
            else:
                self._finish(number, _words(error.errno))

    def _connect(self, number: int, running: _Running) -> None:
        probe = running.probe
        made = running.connection = self._stations[probe.sender].connector(probe.family)
        code = made.connect_ex((probe.target, PORT))
        if code not in (0, errno.EINPROGRESS):
            self._finish(number, _words(code))
            return
        self._selector.register(made, selectors.EVENT_WRITE, (self._connected, (made, number)))

    def _connected(self, connection: socket.socket, number: int) -> None:
        code = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._finish(number, _words(code))
            return
        connection.send(packet.payload(self._nonce, packet.QUESTION, number))
        self._selector.modify(connection, selectors.EVENT_READ, (self._replied, (connection, number)))

    def _replied(self, connection: socket.socket, number: int) -> None:
        try:
            data = connection.recv(READ)
        except OSError as error:
            self._finish(number, _words(error.errno))
            return
        found = packet.parse(self._nonce, data)
        answered = found == (packet.ANSWER, number)
        self._finish(number, "" if answered else "the connection ended without an answer")

    # answering -----------------------------------------------------------------------------------

    def _datagram(self, one: socket.socket, station: Station) -> None:
        data, address = one.recvfrom(READ)
        found = packet.parse(self._nonce, data)
        if found is None:
            return
        kind, number = found
        if kind == packet.QUESTION:
            self._note(number, station, address[0])
            answer = packet.payload(self._nonce, packet.ANSWER, number, len(data))
            try:
                one.sendto(answer, address)
            except OSError as error:
                self._complain(number, f"{station.name} can't answer: {_words(error.errno)}")
        else:
            self._answer(number, station)

    def _icmp(self, one: socket.socket, station: Station, family: int) -> None:
        data, address = one.recvfrom(READ)
        message = packet.message(family, data)
        found = packet.parse(self._nonce, message[packet.ICMP.size :])
        if message[0] == packet.ECHO[family] and found:
            self._note(found[1], station, address[0])
        elif message[0] == packet.ECHO_REPLY[family] and found:
            self._answer(found[1], station)
        elif (quoted := packet.error(family, self._nonce, message)) is not None:
            self._complain(quoted[0], f"{address[0].partition('%')[0]} says: {quoted[1]}")

    def _accept(self, one: socket.socket, station: Station) -> None:
        try:
            made, address = one.accept()
        except OSError:
            return  # it was reset before it was taken
        made.setblocking(False)
        self._accepted.add(made)
        self._watch(made, self._question, station, address[0])

    def _question(self, connection: socket.socket, station: Station, address: str) -> None:
        try:
            found = packet.parse(self._nonce, connection.recv(READ))
            if found is not None:
                self._note(found[1], station, address)
                connection.send(packet.payload(self._nonce, packet.ANSWER, found[1]))
                return
        except OSError:
            pass  # reset: the sender has what it wanted, or gave up
        self._selector.unregister(connection)
        self._accepted.discard(connection)
        connection.close()

    # results -------------------------------------------------------------------------------------

    def _answer(self, number: int, station: Station) -> None:
        """An answer is read: the end, unless the kernel answered and the question waits to be read."""
        running = self._running.get(number)
        if running is not None and running.probe.sender == station.name:
            running.answered = True
            if running.arrived_at:
                self._finish(number)

    def _note(self, number: int, station: Station, address: str) -> None:
        running = self._running.get(number)
        if running is not None and not running.seen:
            running.seen = address.partition("%")[0]
            running.arrived_at = station.name
            if running.answered:
                self._finish(number)

    def _complain(self, number: int, words: str) -> None:
        """Remember what went wrong: an answer may still come."""
        running = self._running.get(number)
        if running is not None:
            running.error = words

    def _finish(self, number: int, error: str = "") -> None:
        running = self._running.pop(number, None)
        if running is None:
            return
        if running.connection is not None:
            if running.connection in self._selector.get_map():
                self._selector.unregister(running.connection)
            running.connection.close()
        if not error and running.arrived_at != running.probe.receiver:
            error = f"it arrived at {running.arrived_at}, not at its receiver"
        took = (time.monotonic() - running.started) * 1000
        self._outcomes[number] = Outcome(
            probe=running.probe, seen=running.seen, error=error, milliseconds=round(took, 3)
        )


def _words(code: int | None) -> str:
    return "too big for the sender's link" if code == errno.EMSGSIZE else os.strerror(code or errno.EIO)

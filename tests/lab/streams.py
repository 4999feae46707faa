"""Traffic between all pods of a lab while something happens: UDP at a steady rate, and TCP connections that
stay open. Receivers count; a report says what each sender sent and each receiver got.

One process for all: ``python streams.py`` reads a ``Plan`` as its first line, says "ready", and reports when
its input ends. It holds sockets of every pod, so nothing runs in them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator

import msgspec

from podway.kernel import namespaces

PORT = 7777
TICK = 0.005  # seconds
DRAIN = 1.0  # seconds to wait for what is underway
TCP_CHUNK = 3000  # bytes a tick and connection: two full segments
BUFFER = 8 << 20
SO_RCVBUFFORCE = 33
IP_MTU_DISCOVER, IP_PMTUDISC_DO = 10, 2
IPV6_MTU_DISCOVER = 23
TCP_INFO_RETRANS = struct.Struct("=100xI")  # struct tcp_info: tcpi_total_retrans
HEAD = struct.Struct("=II")  # stream, number


class Pod(msgspec.Struct):
    """A pod by name, its namespace as a path, its addresses without prefix length."""

    name: str
    namespace: str
    addresses: list[str]


class Plan(msgspec.Struct):
    """``rate``: UDP packets a second for each ordered pair and family; ``size``: bytes of a datagram.

    ``drain``: seconds to wait at the end; more than usual only until all has come."""

    pods: list[Pod]
    rate: int
    size: int
    drain: float = DRAIN


class Flow(msgspec.Struct):
    """One ordered pair: what was sent, what the receiver counted, and what went wrong with TCP."""

    sender: str
    receiver: str
    family: int
    sent: int = 0
    received: int = 0
    twice: int = 0
    refused: int = 0  # datagrams that the sender's own kernel would not send, with the last reason
    reason: str = ""
    tcp_sent: int = 0
    tcp_received: int = 0
    tcp_error: str = ""
    retransmitted: int = 0
    longest_gap: float = 0.0  # seconds without a datagram at the receiver

    @property
    def lost(self) -> int:
        return self.sent - self.received


def _socket(namespace: int, family: int, kind: int) -> socket.socket:
    with namespaces.entered(namespace):
        made = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, kind)
    if family == 6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return made


class _Runner:
    """All streams of a plan on one thread."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.flows: list[Flow] = []
        self.udp: list[tuple[socket.socket, tuple[str, int]]] = []
        self.tcp: list[socket.socket] = []
        self.seen: list[set[int]] = []
        self.last: list[float] = []
        self.receivers: dict[int, socket.socket] = {}
        self.accepted: dict[int, tuple[socket.socket, int]] = {}
        self.poll = select.epoll()
        fds = {pod.name: namespaces.open_namespace(pod.namespace) for pod in plan.pods}
        listeners = {}
        for pod in plan.pods:
            for address in pod.addresses:
                family = 6 if ":" in address else 4
                listeners[pod.name, family] = (address, self._listen(fds[pod.name], family, address))
        for sender in plan.pods:
            for (name, family), (address, listener) in listeners.items():
                if name != sender.name and any((":" in a) == (family == 6) for a in sender.addresses):
                    self._flow(fds[sender.name], sender.name, name, family, address, listener)
        for fd in fds.values():
            os.close(fd)

    def _listen(self, namespace: int, family: int, address: str) -> socket.socket:
        udp = _socket(namespace, family, socket.SOCK_DGRAM)
        udp.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
        udp.bind((address, PORT))
        udp.setblocking(False)
        self.receivers[udp.fileno()] = udp
        self.poll.register(udp, select.EPOLLIN)
        listener = _socket(namespace, family, socket.SOCK_STREAM)
        listener.bind((address, PORT))
        listener.listen(64)
        return listener

    def _flow(
        self, ns: int, sender: str, name: str, family: int, address: str, listener: socket.socket
    ) -> None:
        number = len(self.flows)
        self.flows.append(Flow(sender, name, family))
        self.seen.append(set())
        self.last.append(0.0)
        udp = _socket(ns, family, socket.SOCK_DGRAM)
        if family == 4:
            udp.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
        else:
            udp.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, IP_PMTUDISC_DO)
        self.udp.append((udp, (address, PORT)))
        tcp = _socket(ns, family, socket.SOCK_STREAM)
        tcp.settimeout(20)
        tcp.connect((address, PORT))
        tcp.setblocking(False)
        self.tcp.append(tcp)
        connection, _ = listener.accept()
        connection.setblocking(False)
        self.accepted[connection.fileno()] = (connection, number)
        self.poll.register(connection, select.EPOLLIN)

    def run(self) -> list[Flow]:
        """Until stdin ends."""
        self.poll.register(0, select.EPOLLIN)
        filler = bytes(self.plan.size - HEAD.size)
        begun = time.monotonic()
        done = 0
        going = True
        while going:
            due = int((time.monotonic() - begun) * self.plan.rate)
            for number, flow in enumerate(self.flows):
                for _ in range(done, due):
                    self._send(number, flow, filler)
                self._stream(number, flow)
            done = due
            going = self._receive(TICK)
        end = time.monotonic() + self.plan.drain
        while time.monotonic() < end and not (self.plan.drain > DRAIN and self._has_all()):
            self._receive(TICK)
        for tcp, flow in zip(self.tcp, self.flows, strict=True):
            info = tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_RETRANS.size)
            flow.retransmitted = TCP_INFO_RETRANS.unpack(info)[0]
        return self.flows

    def _has_all(self) -> bool:
        return all(f.sent == f.received and f.tcp_sent == f.tcp_received for f in self.flows)

    def _send(self, number: int, flow: Flow, filler: bytes) -> None:
        one, target = self.udp[number]
        try:
            one.sendto(HEAD.pack(number, flow.sent) + filler, target)
            flow.sent += 1
        except OSError as error:
            flow.refused += 1
            flow.reason = errno.errorcode.get(error.errno or 0, str(error))

    def _stream(self, number: int, flow: Flow) -> None:
        if flow.tcp_error:
            return
        try:
            flow.tcp_sent += self.tcp[number].send(bytes(TCP_CHUNK))
        except BlockingIOError:
            pass
        except OSError as error:
            flow.tcp_error = str(error)

    def _receive(self, wait: float) -> bool:
        """Take in what arrived; False once stdin ended."""
        until = time.monotonic() + wait
        going = True
        while (left := until - time.monotonic()) > 0:
            for fd, _ in self.poll.poll(left):
                if fd == 0:
                    if not os.read(0, 100):
                        self.poll.unregister(0)
                        going = False
                elif fd in self.receivers:
                    self._datagrams(self.receivers[fd])
                else:
                    self._bytes(*self.accepted[fd])
        return going

    def _datagrams(self, one: socket.socket) -> None:
        now = time.monotonic()
        with contextlib.suppress(BlockingIOError):
            while True:
                number, count = HEAD.unpack_from(one.recv(65536))
                flow = self.flows[number]
                if count in self.seen[number]:
                    flow.twice += 1
                    continue
                self.seen[number].add(count)
                flow.received += 1
                if self.last[number]:
                    flow.longest_gap = max(flow.longest_gap, now - self.last[number])
                self.last[number] = now

    def _bytes(self, connection: socket.socket, number: int) -> None:
        flow = self.flows[number]
        try:
            data = connection.recv(1 << 20)
        except BlockingIOError:
            return
        except OSError as error:
            flow.tcp_error, data = str(error), b""
        if not data:
            flow.tcp_error = flow.tcp_error or "the connection ended"
            self.poll.unregister(connection)
        flow.tcp_received += len(data)


class Traffic:
    """What ``running`` yields; ``flows`` once the body has ended."""

    def __init__(self) -> None:
        self.flows: list[Flow] = []

    @property
    def text(self) -> str:
        """What was lost or went wrong, flow by flow; "" when nothing was."""
        return "\n".join(
            f"{f.sender} → {f.receiver} IPv{f.family}: {f.lost} of {f.sent} datagrams lost, "
            f"{f.refused} refused {f.reason}, longest gap {f.longest_gap * 1000:.0f} ms, "
            f"TCP {f.tcp_sent - f.tcp_received} bytes missing {f.tcp_error}"
            for f in self.flows
            if f.lost or f.refused or f.tcp_error or f.tcp_sent != f.tcp_received
        )

    @property
    def retransmitted(self) -> int:
        """TCP segments that were sent again."""
        return sum(flow.retransmitted for flow in self.flows)

    def verify(self, least: int = 100) -> None:
        """Every flow sent at least ``least`` datagrams, none was lost and no connection broke."""
        assert self.flows
        assert not self.text, self.text
        assert all(flow.received >= least and flow.tcp_received for flow in self.flows), self.flows


@contextlib.contextmanager
def running(pods: list[Pod], rate: int = 500, size: int = 200, drain: float = DRAIN) -> Iterator[Traffic]:
    """Traffic between all ordered pairs, in both families, for the body."""
    process = subprocess.Popen(
        [sys.executable, "-P", __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    traffic = Traffic()
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write(msgspec.json.encode(Plan(pods, rate, size, drain)).decode() + "\n")
        process.stdin.flush()
        assert process.stdout.readline() == "ready\n"
        yield traffic
        process.stdin.close()
        traffic.flows = msgspec.json.decode(process.stdout.read(), type=list[Flow])
    finally:
        process.kill()
        process.wait()


def main() -> None:
    """See above."""
    line = b""
    while not line.endswith(b"\n"):
        line += os.read(0, 1)
    runner = _Runner(msgspec.json.decode(line, type=Plan))
    print("ready", flush=True)
    print(msgspec.json.encode(runner.run()).decode(), flush=True)


if __name__ == "__main__":
    main()

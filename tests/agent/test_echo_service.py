"""The agent's echo answers from the address that was asked."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess

import pytest

from podway.agent.echo import EchoService
from podway.probe import echo
from podway.probe.echo import LEAST, Echo, Kind

pytestmark = pytest.mark.kernel
PORT = 9178


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


async def _asked(address: str, size: int = 0) -> tuple[Echo, str] | None:
    """The echo's answer at ``address``, and the address that it came from."""
    loop = asyncio.get_running_loop()
    heard: asyncio.Queue[tuple[Echo, str, str]] = asyncio.Queue()
    service = EchoService("b", PORT, lambda *found: heard.put_nowait(found))
    service.start(loop)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    question = echo.encode(Echo(kind=Kind.QUESTION, nonce=9, sender="a", size=size))
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as asking:
            asking.setblocking(False)
            for _ in range(10):  # a machine with much to do may lose one
                asking.sendto(question, (address, PORT))
                with contextlib.suppress(TimeoutError):
                    data, sender = await asyncio.wait_for(loop.sock_recvfrom(asking, 9000), 1)
                    answered = echo.decode(data)
                    assert answered is not None
                    return answered, sender[0]
            return None
    finally:
        service.stop()


@pytest.fixture
def node(in_namespace: int) -> None:
    """A node's uplink address, a gateway and a tunnel's end, which no default source would choose."""
    _ip("link", "set", "lo", "up")
    _ip("link", "add", "up0", "type", "bridge")
    _ip("link", "set", "up0", "up")
    for address in ("192.0.2.1/24", "10.244.3.1/24", "10.244.3.0/32"):
        _ip("address", "add", address, "dev", "up0")
    for address in ("2001:db8::1/64", "fd00:10::1/64"):
        _ip("address", "add", address, "dev", "up0", "nodad")


@pytest.mark.parametrize("address", ["192.0.2.1", "10.244.3.1", "10.244.3.0", "2001:db8::1", "fd00:10::1"])
@pytest.mark.parametrize("size", [0, 1472])
def test_it_answers_from_the_address_that_was_asked(node: None, address: str, size: int) -> None:
    """The node's addresses, its blocks' gateways and its tunnels' ends, in the question's size."""
    answered, sender = asyncio.run(_asked(address, size)) or (None, "")
    assert answered is not None
    assert (answered.kind, answered.nonce, answered.sender) == (Kind.ANSWER, 9, "b")
    assert answered.size == max(size, LEAST) and sender == address


def test_asking_from_the_service_itself(node: None) -> None:
    """An answer to what the agent asked from its own port is handed over, not answered again."""

    async def ask() -> tuple[Echo, str, str]:
        heard: asyncio.Queue[tuple[Echo, str, str]] = asyncio.Queue()
        service = EchoService("a", PORT, lambda *found: heard.put_nowait(found))
        service.start(asyncio.get_running_loop())
        try:
            question = Echo(kind=Kind.QUESTION, nonce=5, sender="a")
            assert service.ask(question, "10.244.3.1", source="192.0.2.1")
            return await asyncio.wait_for(heard.get(), 10)
        finally:
            service.stop()

    found, sender, asked = asyncio.run(ask())
    assert (found.nonce, sender, asked) == (5, "10.244.3.1", "192.0.2.1")


def test_a_taken_port_does_not_stop_the_agent(node: None) -> None:
    """It is logged, and the rest goes on."""

    async def start() -> bool:
        service = EchoService("a", PORT)
        service.start(asyncio.get_running_loop())
        sent = service.ask(Echo(kind=Kind.QUESTION, nonce=5, sender="a"), "192.0.2.1")
        service.stop()
        return sent

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("", PORT))
        assert not asyncio.run(start())

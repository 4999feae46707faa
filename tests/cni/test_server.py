"""The agent's socket: who may call, what becomes of odd callers, and that no descriptor is left.

Calls are made with the Python client of shim.py on real sockets.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cni_fakes import NETNS, RecordingEngine, conf, environment, open_descriptors, serving

from podway.cni import shim as client
from podway.cni import wire
from podway.cni.protocol import Answer, Call
from podway.cni.server import LIMIT, Server, Tell
from podway.kernel import namespaces
from podway.model.errors import Conflict

pytestmark = pytest.mark.kernel


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "run" / "cni.sock")


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    before = open_descriptors()
    yield
    assert open_descriptors() - before == set()


@contextlib.contextmanager
def own_namespace() -> Iterator[int]:
    fd = os.open(namespaces.OWN, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)


def message(command: str = "DEL", descriptors: str = "c", body: object = None) -> wire.Message:
    env = tuple((k.encode(), v.encode()) for k, v in environment(command).items())
    stdin = json.dumps(conf() if body is None else body).encode()
    return wire.Message(argv0=b"x", env=env, path=b"", stdin=stdin, descriptors=descriptors)


def ask(path: str, what: wire.Message | None = None) -> wire.Reply:
    with own_namespace() as fd:
        return client.ask(path, what or message(), [fd])


def send(path: str, data: bytes, fds: list[int]) -> bytes:
    """All that the server answers to raw bytes."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        socket.send_fds(connection, [data], fds) if fds else connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_call_is_answered(path: str) -> None:
    engine = RecordingEngine()
    with serving(path, engine):
        assert ask(path) == wire.Reply(0, b"")
        reply = ask(path, message(body={}))
        assert reply.exit_code == 1 and json.loads(reply.stdout)["code"] == 7
    assert engine.asked == [("delete", "c0ffee", "eth0")]


def test_add_hands_the_pods_namespace_over(path: str, pod_namespace: int) -> None:
    engine = RecordingEngine()
    with serving(path, engine), own_namespace() as fd:
        reply = client.ask(path, message("ADD", "cp"), [fd, pod_namespace])
    assert json.loads(reply.stdout)["interfaces"][2]["sandbox"] == NETNS
    assert engine.namespaces == [namespaces.identity(pod_namespace)]


def test_the_socket_is_roots_alone_whatever_the_umask(path: str) -> None:
    old = os.umask(0)
    try:
        with serving(path, RecordingEngine()):
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
            assert os.listdir(os.path.dirname(path)) == ["cni.sock"]
    finally:
        os.umask(old)
    assert not os.path.exists(path)


def test_another_user_is_refused(path: str, tmp_path: Path) -> None:
    """The mode keeps others out; credentials are checked beside it, here with the mode opened."""
    engine = RecordingEngine()
    script = (
        "import os, socket, sys\n"
        "s = socket.socket(socket.AF_UNIX)\n"
        "os.chdir(sys.argv[1]); os.setgid(65534); os.setuid(65534)\n"
        "s.connect('cni.sock'); print(s.recv(65536)[16:].decode())\n"
    )
    with serving(path, engine):
        os.chmod(path, 0o666)
        where = os.path.dirname(path)
        done = subprocess.run([sys.executable, "-c", script, where], capture_output=True, check=True)
    assert json.loads(done.stdout)["code"] == 4
    assert engine.asked == []


def test_a_caller_in_another_namespace_is_sent_elsewhere(path: str, pod_namespace: int) -> None:
    engine = RecordingEngine()
    with serving(path, engine), pytest.raises(client.NoAgent):
        client.ask(path, message(), [pod_namespace])
    assert engine.asked == []


@pytest.mark.parametrize("count", [0, 1, 2, 3, 9])
def test_descriptors_must_be_as_announced(path: str, count: int) -> None:
    engine = RecordingEngine()
    with serving(path, engine), own_namespace() as fd:
        answer = send(path, wire.encode(message(descriptors="cp")), [fd] * count)
        assert (
            (json.loads(answer[wire.ANSWER_HEADER :])["code"] == 6) if count != 2 else len(engine.asked) == 1
        )


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n\r\n", wire.encode(message())[:12] + b"\x01\0", b"PWRQ\0\x09" + b"\0" * 6]
)
def test_what_is_no_message_gets_a_document_or_nothing(path: str, data: bytes) -> None:
    with serving(path, RecordingEngine()), own_namespace() as fd:
        answer = send(path, data, [fd])
        assert not answer or json.loads(answer[wire.ANSWER_HEADER :])["code"] == 6
        assert ask(path).exit_code == 0


def test_a_message_in_many_pieces(path: str) -> None:
    data = wire.encode(message())
    with serving(path, RecordingEngine()), own_namespace() as fd, socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        socket.send_fds(connection, [data[:1]], [fd])
        for byte in data[1:]:
            connection.sendall(bytes([byte]))
        assert connection.recv(65536) == wire.encode_reply(wire.Reply(0, b""))


def test_a_caller_that_stalls_is_hung_up_on(path: str) -> None:
    with (
        serving(path, RecordingEngine(), patience=1.0),
        own_namespace() as fd,
        socket.socket(socket.AF_UNIX) as connection,
    ):
        connection.connect(path)
        socket.send_fds(connection, [b"PWRQ"], [fd])
        assert connection.recv(1) == b""


def test_a_caller_that_was_killed_does_not_matter(path: str) -> None:
    engine = RecordingEngine()
    with serving(path, engine, delay=0.05):
        with own_namespace() as fd, socket.socket(socket.AF_UNIX) as connection:
            connection.connect(path)
            socket.send_fds(connection, [wire.encode(message())], [fd])
        eventually(lambda: len(engine.asked) == 1)
        assert ask(path).exit_code == 0


def test_more_calls_than_are_held_at_once_all_succeed(path: str) -> None:
    engine = RecordingEngine()
    replies: list[wire.Reply] = []
    with serving(path, engine, delay=0.1):
        threads = [threading.Thread(target=lambda: replies.append(ask(path))) for _ in range(LIMIT + 50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert replies == [wire.Reply(0, b"")] * (LIMIT + 50)
    assert len(engine.asked) == LIMIT + 50


def test_calls_at_work_are_answered_when_the_agent_stops(path: str) -> None:
    replies: list[wire.Reply] = []
    engine = RecordingEngine()
    thread = threading.Thread(target=lambda: replies.append(ask(path)))
    with serving(path, engine, delay=0.3) as server:
        thread.start()
        eventually(lambda: len(server._calls) == 1 or bool(replies))
    thread.join()
    assert replies == [wire.Reply(0, b"")]


def test_a_call_not_yet_accepted_is_answered_when_the_agent_stops(path: str) -> None:
    async def scenario(connection: socket.socket, fd: int) -> None:
        server = Server(path, submit)
        await server.start()
        connection.connect(path)
        socket.send_fds(connection, [wire.encode(message())], [fd])
        await server.close()

    async def submit(call: Call, tell: Tell) -> None:
        tell(Answer(0))

    with own_namespace() as fd, socket.socket(socket.AF_UNIX) as connection:
        asyncio.run(scenario(connection, fd))
        assert connection.recv(65536) == wire.encode_reply(wire.Reply(0, b""))


def test_what_submit_raises_is_a_document(path: str) -> None:
    async def scenario() -> None:
        async def submit(call: Call, tell: Tell) -> None:
            raise RuntimeError("the queue is closed")

        server = Server(path, submit)
        await server.start()
        reply = await asyncio.to_thread(ask, path)
        await server.close()
        assert json.loads(reply.stdout)["code"] == 100

    asyncio.run(scenario())


def test_an_answer_is_there_before_the_event_loop_turns_to_it(path: str) -> None:
    """It is told by another thread, and longer than what a socket takes at once."""
    long = b"x" * 4_000_000

    async def scenario() -> None:
        heard = asyncio.Event()

        async def submit(call: Call, tell: Tell) -> None:
            await asyncio.to_thread(tell, Answer(0, long if call.env["CNI_COMMAND"] == "ADD" else b"short"))
            if call.env["CNI_COMMAND"] != "ADD":
                await asyncio.wait_for(heard.wait(), 10)

        server = Server(path, submit)
        await server.start()
        assert (await asyncio.to_thread(ask, path)).stdout == b"short"
        heard.set()
        assert (await asyncio.to_thread(ask, path, message("ADD"))).stdout == long
        await server.close()

    asyncio.run(scenario())


def start(path: str) -> None:
    async def scenario() -> None:
        async def submit(call: Call, tell: Tell) -> None:
            tell(Answer(0))

        server = Server(path, submit)
        await server.start()
        await server.close()

    asyncio.run(scenario())


def test_a_dead_agents_socket_is_replaced(path: str) -> None:
    os.makedirs(os.path.dirname(path))
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    start(path)
    assert os.listdir(os.path.dirname(path)) == []


def test_a_living_agents_socket_is_not(path: str) -> None:
    with serving(path, RecordingEngine()):
        with pytest.raises(Conflict, match="another agent"):
            start(path)
        assert ask(path).exit_code == 0


def test_another_file_is_never_removed(path: str) -> None:
    os.makedirs(os.path.dirname(path))
    Path(path).write_text("precious")
    with pytest.raises(Conflict):
        start(path)
    assert Path(path).read_text() == "precious"


def test_closing_leaves_a_successors_socket(path: str) -> None:
    with serving(path, RecordingEngine()):
        os.unlink(path)
        successor = socket.socket(socket.AF_UNIX)
        successor.bind(path)
    assert os.path.exists(path)
    successor.close()

"""What a runtime executes, as the C program and as the Python script, against a real server.

One JSON document on stdout or nothing; in-process only when no agent did anything; an agent that is
lost with the message is code 11 and never a second execution.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cni_fakes import NETNS, RecordingEngine, conf, environment, handle, serving
from hypothesis import given, settings
from hypothesis import strategies as st

from podway.cni import wire
from podway.cni.protocol import VERSIONS, Call
from podway.kernel import namespaces

pytestmark = pytest.mark.kernel
LIMIT = wire.STDIN_LIMIT
Done = subprocess.CompletedProcess[bytes]


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "cni.sock")


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    """Where the fallback command leaves its stdin; it prints {"fallback": true} and exits with 9."""
    return tmp_path / "fallback-stdin"


def fallback(ran: Path) -> list[str]:
    return ["/bin/sh", "-c", f"cat >> {ran}; echo '{{\"fallback\":true}}'; exit 9"]


def run(shim: list[str], body: Any, command: str = "DEL", **env: str) -> Done:
    stdin = body if isinstance(body, bytes) else json.dumps(body).encode()
    return subprocess.run(
        shim,
        input=stdin,
        env={**environment(command, **env), "PATH": "/bin"},
        capture_output=True,
        timeout=60,
    )


def error_of(done: Done) -> tuple[int, str]:
    found = json.loads(done.stdout)
    assert done.returncode == 1
    assert found["cniVersion"] in VERSIONS
    assert done.stderr == b""
    return found["code"], found["msg"]


# --- with an agent ----------------------------------------------------------------------------------


def test_a_call_and_its_answer(shim: list[str], path: str, ran: Path) -> None:
    engine = RecordingEngine()
    with serving(path, engine):
        done = run(shim, conf(socket=path, fallback=fallback(ran)))
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        assert error_of(run(shim, conf(socket=path, name="?")))[0] == 7
    assert engine.asked == [("delete", "c0ffee", "eth0")]
    assert not ran.exists()


def test_add_with_a_namespace_by_path(shim: list[str], path: str, pod_namespace: int) -> None:
    engine = RecordingEngine()
    netns = f"/proc/{os.getpid()}/fd/{pod_namespace}"
    with serving(path, engine):
        done = run(shim, conf(socket=path), "ADD", CNI_NETNS=netns)
        assert json.loads(done.stdout)["interfaces"][2]["sandbox"] == netns
        assert engine.namespaces == [namespaces.identity(pod_namespace)]
        code, msg = error_of(run(shim, conf(socket=path), "ADD"))
        assert code == 8 and NETNS in msg and "No such file" in msg
        assert error_of(run(shim, conf(socket=path), "ADD", CNI_NETNS="/dev/null"))[0] == 8
        assert error_of(run(shim, conf(socket=path), "ADD", CNI_NETNS="/proc/self/ns/net"))[0] == 8


def test_a_fifo_as_namespace_does_not_block(shim: list[str], path: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with serving(path, RecordingEngine()):
        assert error_of(run(shim, conf(socket=path), "ADD", CNI_NETNS=str(tmp_path / "fifo")))[0] == 8


def test_ten_megabytes_of_stdin_pass_through(shim: list[str], path: str) -> None:
    engine = RecordingEngine()
    body = json.dumps(conf(socket=path)).encode()
    with serving(path, engine):
        done = run(shim, body + b" " * (LIMIT - len(body)))
        assert (done.returncode, done.stdout) == (0, b"")
        code, msg = error_of(run(shim, body + b" " * (LIMIT - len(body) + 1)))
        assert code == 6 and str(LIMIT) in msg
    assert len(engine.asked) == 1


def test_a_stdin_of_ten_megabytes_that_is_one_string(shim: list[str], path: str) -> None:
    with serving(path, RecordingEngine()):
        assert run(shim, conf(socket=path, junk="\u00e9" * (LIMIT // 8))).returncode == 0


@pytest.mark.parametrize(
    "stdin",
    [
        b"",
        b"nope",
        b"[1]",
        b'{"name":"\xff\xfe"}',
        b"\xff",
        b"[" * 300_000,
        b'{"a":' * 300_000,
        b"\0",
        b'{"a":1}}',
    ],
    ids=lambda value: repr(value[:12]),
)
def test_undecodable_stdin_is_code_6(shim: list[str], stdin: bytes) -> None:
    assert error_of(run(shim, stdin))[0] == 6


def test_invalid_utf8_in_the_environment_passes_through(shim: list[str], path: str) -> None:
    with serving(path, RecordingEngine()):
        code, msg = error_of(run(shim, conf(socket=path), "ADD", CNI_IFNAME="eth\udcff"))
    assert code == 4 and "CNI_IFNAME" in msg


def test_a_hundred_at_once(shim: list[str], path: str) -> None:
    engine = RecordingEngine()
    count = 100 if len(shim) == 1 else 20
    with serving(path, engine, delay=0.05), ThreadPoolExecutor(count) as pool:
        every = list(pool.map(lambda n: run(shim, conf(socket=path), CNI_CONTAINERID=f"c{n}"), range(count)))
    assert {done.returncode for done in every} == {0}
    assert {asked[1] for asked in engine.asked} == {f"c{n}" for n in range(count)}


# --- without ----------------------------------------------------------------------------------------


def refused(path: str, kind: str) -> None:
    """Puts something at ``path`` behind which nobody listens."""
    if kind == "file":
        Path(path).write_text("x")
    elif kind == "dead":
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(path)


@pytest.mark.parametrize("kind", ["nothing", "file", "dead"])
def test_no_agent_is_the_fallback_with_stdin_and_environment(
    shim: list[str], path: str, ran: Path, kind: str
) -> None:
    refused(path, kind)
    body = json.dumps(conf(socket=path, fallback=fallback(ran))).encode() + b" " * 200_000
    done = run(shim, body)
    assert (done.returncode, json.loads(done.stdout)) == (9, {"fallback": True})
    assert ran.read_bytes() == body
    command = ["/bin/sh", "-c", "echo $0 $CNI_COMMAND $CNI_IFNAME $PATH", "a\u00e9"]
    assert run(shim, conf(fallback=command)).stdout.decode() == "a\u00e9 DEL eth0 /bin\n"


def test_an_agent_of_another_namespace_is_the_fallback(
    shim: list[str], path: str, ran: Path, pod_namespace: int
) -> None:
    engine = RecordingEngine()
    with serving(path, engine), namespaces.entered(pod_namespace):
        done = run(shim, conf(socket=path, fallback=fallback(ran)))
    assert (done.returncode, engine.asked) == (9, [])
    assert ran.exists()


def test_without_a_fallback_it_is_code_11_and_says_why(shim: list[str], path: str) -> None:
    code, msg = error_of(run(shim, conf(socket=path)))
    assert code == 11 and "no agent" in msg
    assert error_of(run(shim, conf()))[0] == 11
    assert error_of(run(shim, conf(socket=None, fallback=[])))[0] == 11


def test_a_fallback_that_can_not_be_run_is_code_5(shim: list[str], path: str) -> None:
    code, msg = error_of(run(shim, conf(socket=path, fallback=["/no/such/python"])))
    assert code == 5 and "/no/such/python" in msg


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ({"socket": 5}, "socket"),
        ({"socket": "a\0b"}, "socket"),
        ({"socket": "/" + "x" * 107}, "socket"),
        ({"socket": "/nope", "fallback": "x"}, "fallback"),
        ({"socket": "/nope", "fallback": ["x", 5]}, "fallback"),
        ({"socket": "/nope", "fallback": ["a\0b"]}, "fallback"),
    ],
)
def test_wrong_keys_of_its_own_are_code_7_and_named(shim: list[str], more: dict[str, Any], key: str) -> None:
    code, msg = error_of(run(shim, conf(**more)))
    assert code == 7 and msg.startswith(f"{key}: ")


def test_a_socket_that_can_not_be_reached_is_code_5(shim: list[str], tmp_path: Path, ran: Path) -> None:
    (tmp_path / "file").touch()
    code, _ = error_of(run(shim, conf(socket=str(tmp_path / "file" / "s"), fallback=fallback(ran))))
    assert code == 5 and not ran.exists()


# --- lost on the way --------------------------------------------------------------------------------

SERVER = textwrap.dedent("""
    import asyncio, sys
    from podway.cni.server import Server
    async def submit(call, tell):
        print("taken", flush=True)
        await asyncio.sleep(1000)
    async def main():
        await Server(sys.argv[1], submit).start()
        print("ready", flush=True)
        await asyncio.sleep(1000)
    asyncio.run(main())
""")


@pytest.fixture
def victim(path: str) -> Iterator[subprocess.Popen[bytes]]:
    """An agent that takes calls and never answers."""
    with subprocess.Popen([sys.executable, "-c", SERVER, path], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        yield process
        process.kill()


def test_an_agent_killed_with_the_call_is_code_11_and_no_fallback(
    shim: list[str], path: str, ran: Path, victim: subprocess.Popen[bytes]
) -> None:
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run, shim, conf(socket=path, fallback=fallback(ran)))
        assert victim.stdout is not None and victim.stdout.readline() == b"taken\n"
        victim.send_signal(signal.SIGKILL)
        code, msg = error_of(running.result())
    assert code == 11 and "try again" in msg
    assert not ran.exists()


def test_an_agent_lost_with_half_of_the_message_is_code_11(shim: list[str], path: str, ran: Path) -> None:
    body = json.dumps(conf(socket=path, fallback=fallback(ran))).encode() + b" " * 5_000_000
    with answering(path, b""):
        assert error_of(run(shim, body))[0] == 11
    assert not ran.exists()


@contextlib.contextmanager
def answering(path: str, answer: bytes) -> Iterator[None]:
    """Something that takes one call, reads a part of it, answers with ``answer`` and hangs up."""

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        connection.recv(100)
        connection.sendall(answer)
        connection.close()

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        yield
        thread.join()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"PWAN",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"PWAN\0\x02" + b"\0" * 10,
        b"PWAN\0\x01" + b"\0" * 6 + b"\xff" * 4,
        b"PWAN\0\x01" + b"\0" * 6 + b"\0\0\0\x09{}",
    ],
    ids=lambda value: repr(value[:8]),
)  # fmt: skip
def test_a_broken_answer_is_code_11(shim: list[str], path: str, ran: Path, answer: bytes) -> None:
    with answering(path, answer):
        assert error_of(run(shim, conf(socket=path, fallback=fallback(ran))))[0] == 11
    assert not ran.exists()


def test_an_answer_given_before_all_was_read_is_printed(shim: list[str], path: str) -> None:
    with answering(path, wire.encode_reply(wire.Reply(5, b"{}\n"))):
        done = run(shim, json.dumps(conf(socket=path)).encode() + b" " * 5_000_000)
    assert (done.returncode, done.stdout) == (5, b"{}\n")


# --- by itself --------------------------------------------------------------------------------------


def test_no_command_is_one_line_about_it_on_stderr(shim: list[str]) -> None:
    for env in ({}, {"CNI_COMMAND": ""}):
        done = subprocess.run(shim, env=env, capture_output=True, stdin=subprocess.DEVNULL)
        assert (done.returncode, done.stdout) == (0, b"")
        assert done.stderr.count(b"\n") == 1 and b"podway-cni" in done.stderr


def same_version(argv: list[str], stdin: bytes) -> None:
    expected = handle(Call(env={"CNI_COMMAND": "VERSION"}, stdin=stdin), RecordingEngine())
    done = run(argv, stdin, "VERSION")
    assert (done.returncode, done.stdout, done.stderr) == (0, expected.stdout, b"")


@pytest.mark.parametrize(
    "stdin",
    [
        b"",
        b"{}",
        b'{"cniVersion":"0.4.0","socket":5}',
        b'{"cniVersion":"0.4.0","cniVersion":3}',
        b"\xff",
        b"[]",
        b'{"cniVersion":"0.4.0"',
        b'{"cniVersion":"0\\u002e4.0"}',
        b'{"cniVersion":"9"}',
        b'{"cniVersion":null}',
    ],
)
def test_version_is_what_the_agent_would_answer(shim: list[str], stdin: bytes) -> None:
    same_version(shim, stdin)


ANY = st.recursive(
    st.sampled_from(["0.4.0", "", "\u00e9", "\U0001f600", '"\\', None, True, 0, -1.5, 1e-7, 12345678901]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
DOCUMENTS = st.builds(
    lambda value, ascii: json.dumps({"x": value, "cniVersion": "0.4.0"}, ensure_ascii=ascii).encode(),
    ANY,
    st.booleans(),
)


@settings(max_examples=300)
@given(
    stdin=DOCUMENTS, at=st.integers(0), cut=st.booleans(), byte=st.sampled_from(b'"\\{}[],:0 x-\xff\xc3\x80u')
)
def test_the_scanner_agrees_with_the_agents_decoder(
    compiled_shim: list[str], stdin: bytes, at: int, cut: bool, byte: int
) -> None:
    """VERSION shows whether a document was found valid: whole, cut short, and with one byte changed."""
    at %= len(stdin)
    same_version(compiled_shim, stdin)
    same_version(compiled_shim, stdin[:at] if cut else stdin[:at] + bytes([byte]) + stdin[at + 1 :])


def test_a_closed_stdin_and_a_closed_stdout(shim: list[str], path: str) -> None:
    quoted = " ".join(f"'{part}'" for part in shim)
    env = {**environment("VERSION"), "PATH": "/bin"}
    done = subprocess.run(["/bin/sh", "-c", f"{quoted} <&-"], env=env, capture_output=True)
    assert json.loads(done.stdout)["cniVersion"] == "1.1.0"
    engine = RecordingEngine()
    env = {**environment("DEL"), "PATH": "/bin", "CONF": json.dumps(conf(socket=path))}
    with serving(path, engine):
        subprocess.run(["/bin/sh", "-c", f'echo "$CONF" | {quoted} >&-'], env=env, capture_output=True)
    assert len(engine.asked) == 1

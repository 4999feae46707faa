"""The message between executable and agent: what is encoded is decoded, and nothing else is.

The bytes of every released version stand here literally: they must be understood for ever.
"""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from pathlib import Path

import pytest
from cni_fakes import conf
from hypothesis import given
from hypothesis import strategies as st

from podway.cni import wire

ENV = ((b"CNI_COMMAND", b"ADD"), (b"CNI_ARGS", b"a=b;c=\xff"))
MESSAGE = wire.Message(
    argv0=b"/opt/cni/bin/podway-cni", env=ENV, path=b"/bin", stdin=b'{"\0\xff', descriptors="cp"
)
RELEASED = {
    1: bytes.fromhex(
        "50575251" "0001" "0000" "0000005e"
        "01" "00000017" + b"/opt/cni/bin/podway-cni".hex() + "03" "00000004" + b"/bin".hex() +
        "02" "0000000f" + b"CNI_COMMAND=ADD".hex() + "02" "00000010" + b"CNI_ARGS=a=b;c=\xff".hex() +
        "05" "00000002" + b"cp".hex() + "04" "00000004" + b'{"\0\xff'.hex()
    )
}  # fmt: skip
RELEASED_ANSWER = {1: bytes.fromhex("5057414e" "0001" "0000" "00000001" "00000003") + b"{}\n"}  # fmt: skip


def decode(data: bytes) -> wire.Message:
    version, length = wire.request_length(data[: wire.REQUEST_HEADER])
    body = data[wire.REQUEST_HEADER :]
    assert len(body) == length
    return wire.decode(version, body)


@pytest.mark.parametrize("version", sorted(wire.RELEASED))
def test_released_versions(version: int) -> None:
    assert decode(RELEASED[version]) == MESSAGE._replace(version=version)
    reply, length = wire.reply_length(RELEASED_ANSWER[version][: wire.ANSWER_HEADER])
    assert (reply, length) == (wire.Reply(1, b"", version=version), 3)


def test_what_is_sent_now_is_the_newest_released() -> None:
    assert wire.encode(MESSAGE) == RELEASED[wire.NEWEST]
    assert wire.encode_reply(wire.Reply(1, b"{}\n")) == RELEASED_ANSWER[wire.NEWEST]


NAMES = st.binary(max_size=20).filter(lambda name: b"=" not in name)


@given(
    st.builds(
        wire.Message,
        argv0=st.binary(max_size=50),
        env=st.lists(st.tuples(NAMES, st.binary(max_size=50)), max_size=5).map(tuple),
        path=st.binary(max_size=50),
        stdin=st.binary(max_size=500),
        descriptors=st.sampled_from(["", "c", "cp"]),
        pod_errno=st.integers(0, 133),
        version=st.sampled_from(sorted(wire.RELEASED)),
    )
)
def test_round_trip(message: wire.Message) -> None:
    assert decode(wire.encode(message)) == message


@given(st.binary(max_size=80) | st.binary(max_size=80).map(lambda tail: RELEASED[1][12:40] + tail))
def test_any_body_is_decoded_or_refused(body: bytes) -> None:
    try:
        wire.decode(1, body)
    except wire.WireError:
        pass


def test_an_unknown_chunk_is_skipped() -> None:
    body = RELEASED[1][wire.REQUEST_HEADER :] + bytes.fromhex("c8" "00000001" "00")  # fmt: skip
    assert wire.decode(1, body) == MESSAGE


@pytest.mark.parametrize(
    "header",
    [
        b"GET / HTTP/1",
        bytes.fromhex("50575251" "0000" "0000" "00000000"),
        bytes.fromhex("50575251" "0002" "0000" "00000000"),
        bytes.fromhex("50575251" "0001" "0000" "ffffffff"),
    ],
)  # fmt: skip
def test_a_foreign_header_is_refused(header: bytes) -> None:
    with pytest.raises(wire.WireError):
        wire.request_length(header)


@pytest.mark.parametrize(
    "body",
    [
        b"\x01",
        b"\x01\0\0\0\x05abc",
        b"\x01\0\0\0\0\x01\0\0\0\0",
        b"\x05\0\0\0\x01x",
        b"\x05\0\0\0\x02pc",
        b"\x06\0\0\0\x01-",
    ],
)
def test_a_broken_body_is_refused(body: bytes) -> None:
    with pytest.raises(wire.WireError):
        wire.decode(1, body)


def test_the_executable_speaks_it(shim: list[str], tmp_path: Path) -> None:
    """The bytes and descriptors of a real execution, caught by a bare socket."""
    path = str(tmp_path / "s")
    stdin = wire_conf(path) + b" " * 70_000
    caught: list[bytes] = []
    kinds: list[str] = []

    def answer(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        data, fds, _, _ = socket.recv_fds(connection, 1 << 16, 2)
        for fd in fds:
            kinds.append(os.readlink(f"/proc/self/fd/{fd}"))
            os.close(fd)
        _, length = wire.request_length(data[: wire.REQUEST_HEADER])
        while len(data) < length + wire.REQUEST_HEADER:
            data += connection.recv(1 << 16)
        caught.append(data)
        reply = wire.encode_reply(wire.Reply(3, b'{"a":1}\n'))
        for byte in reply:
            connection.send(bytes([byte]))
        connection.close()

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        thread = threading.Thread(target=answer, args=(listener,))
        thread.start()
        env = {
            b"CNI_COMMAND": b"ADD",
            b"CNI_NETNS": b"/proc/self/ns/uts",
            b"CNI_ARGS": b"\xff;x=y",
            b"PATH": b"/p",
        }
        done = subprocess.run(shim, input=stdin, env={**env, b"OTHER": b"1"}, capture_output=True)
        thread.join()
    assert (done.returncode, done.stdout) == (3, b'{"a":1}\n')
    message = decode(caught[0])
    assert message.stdin == stdin
    assert dict(message.env) | {b"PATH": message.path} == env
    assert os.path.basename(message.argv0).decode() in (os.path.basename(shim[0]), "shim.py")
    assert [kind.partition(":")[0] for kind in kinds] == ["net", "uts"]
    assert (message.descriptors, message.pod_errno) == ("cp", 0)


def wire_conf(path: str) -> bytes:
    import json

    return json.dumps(conf(socket=path)).encode()

"""The message between the executable and the agent: bytes ↔ values, no I/O, standard library only.

A request and an answer are one header and one body each; every number is unsigned, big-endian.

    request   "PWRQ"  version u16  0 u16     body length u32                      body
    answer    "PWAN"  version u16  kind u16  exit code u32  body length u32       body (stdout)

The body of a request is a sequence of chunks ``tag u8, length u32, bytes``; the order is free and an
unknown tag is skipped, so a newer executable can tell an older agent more. The descriptors come with
the first byte (SCM_RIGHTS); chunk DESCRIPTORS says what they are, one letter each.

The answer has the version of its request. A version stays decodable for ever once it was released.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

NEWEST = 1
RELEASED = frozenset({1})

STDIN_LIMIT = 10 * 1024 * 1024
REQUEST_LIMIT = STDIN_LIMIT + 2 * 1024 * 1024  # an argument or variable has at most 128 KiB (execve(2))
ANSWER_LIMIT = 64 * 1024 * 1024

DONE = 0
ELSEWHERE = 1  # nothing was done: the agent serves another network namespace than the caller's

CALLER = "c"  # descriptor letters: the caller's network namespace, and the pod's
POD = "p"

_ARGV0, _ENV, _PATH, _STDIN, _DESCRIPTORS, _POD_ERRNO = range(1, 7)
_REQUEST = struct.Struct(">4sHHI")
_ANSWER = struct.Struct(">4sHHII")
_CHUNK = struct.Struct(">BI")
REQUEST_HEADER = _REQUEST.size
ANSWER_HEADER = _ANSWER.size


class WireError(Exception):
    """The bytes are not a message that this version understands."""


class Message(NamedTuple):
    """One execution. ``env`` holds the CNI_* variables; all text is as the process had it, in bytes.

    ``descriptors``: letters of what comes along, in order. ``pod_errno``: why CNI_NETNS did not
    open, 0 when it did or was empty.
    """

    argv0: bytes
    env: tuple[tuple[bytes, bytes], ...]
    path: bytes
    stdin: bytes
    descriptors: str = ""
    pod_errno: int = 0
    version: int = NEWEST


class Reply(NamedTuple):
    """What the executable prints and exits with; with kind ELSEWHERE it runs its fallback instead."""

    exit_code: int
    stdout: bytes
    kind: int = DONE
    version: int = NEWEST


def encode(message: Message) -> bytes:
    """The whole request, header and body."""
    chunks = [(_ARGV0, message.argv0), (_PATH, message.path)]
    chunks += [(_ENV, name + b"=" + value) for name, value in message.env]
    chunks.append((_DESCRIPTORS, message.descriptors.encode()))
    if message.pod_errno:
        chunks.append((_POD_ERRNO, str(message.pod_errno).encode()))
    chunks.append((_STDIN, message.stdin))
    body = b"".join(_CHUNK.pack(tag, len(data)) + data for tag, data in chunks)
    return _REQUEST.pack(b"PWRQ", message.version, 0, len(body)) + body


def request_length(header: bytes) -> tuple[int, int]:
    """(version, body length) from the REQUEST_HEADER bytes of a header.

    Raises WireError when it is none, of no released version, or announces too much."""
    magic, version, _, length = _REQUEST.unpack(header)
    if magic != b"PWRQ":
        raise WireError("not a podway-cni message")
    if version not in RELEASED:
        raise WireError(f"message version {version}; this agent knows {sorted(RELEASED)}")
    if length > REQUEST_LIMIT:
        raise WireError(f"a message of {length} bytes; the limit is {REQUEST_LIMIT}")
    return version, length


def decode(version: int, body: bytes) -> Message:
    """The message in a request's body. Raises WireError."""
    single: dict[int, bytes] = {}
    env = []
    for tag, data in _chunks(body):
        if tag == _ENV:
            name, _, value = data.partition(b"=")
            env.append((name, value))
        elif tag in single:
            raise WireError(f"chunk {tag} comes twice")
        else:
            single[tag] = data
    return Message(
        argv0=single.get(_ARGV0, b""),
        env=tuple(env),
        path=single.get(_PATH, b""),
        stdin=single.get(_STDIN, b""),
        descriptors=_letters(single.get(_DESCRIPTORS, b"")),
        pod_errno=_number(single.get(_POD_ERRNO, b"0")),
        version=version,
    )


def _chunks(body: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(body):
        if at + _CHUNK.size > len(body):
            raise WireError("a chunk is cut off")
        tag, length = _CHUNK.unpack_from(body, at)
        at += _CHUNK.size
        if at + length > len(body):
            raise WireError(f"chunk {tag} is cut off")
        yield tag, body[at : at + length]
        at += length


def _letters(data: bytes) -> str:
    text = data.decode("latin-1")
    if text not in ("", CALLER, CALLER + POD):
        raise WireError(f"descriptors {text!r}")
    return text


def _number(data: bytes) -> int:
    if not data.isdigit() or len(data) > 4:
        raise WireError(f"errno {data!r}")
    return int(data)


def encode_reply(reply: Reply) -> bytes:
    """The whole answer, header and body."""
    head = _ANSWER.pack(b"PWAN", reply.version, reply.kind, reply.exit_code, len(reply.stdout))
    return head + reply.stdout


def reply_length(header: bytes) -> tuple[Reply, int]:
    """(the reply without its stdout, the length of that) from ANSWER_HEADER bytes. Raises WireError."""
    magic, version, kind, exit_code, length = _ANSWER.unpack(header)
    if magic != b"PWAN" or version not in RELEASED or length > ANSWER_LIMIT:
        raise WireError("not the answer of a Podway agent")
    return Reply(exit_code=exit_code, stdout=b"", kind=kind, version=version), length

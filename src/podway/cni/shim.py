"""The executable in Python, for machines without a C compiler: ``python -m podway.cni.shim``.

Does what shim/podway-cni.c does, message for message and code for code. Imports the standard
library and ``wire`` only: this runs once for every CNI call.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from typing import NoReturn

from podway.cni import wire

VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
SETTINGS = ".podway-cni.json"
_ARGV0 = b"PODWAY_ARGV0"  # for the in-process command: which plugin it is
_IO, _DECODE, _CONFIGURATION, _LATER = 5, 6, 7, 11
_ABOUT = (
    "podway-cni: the CNI plugin of Podway; a container runtime runs it "
    "(CNI spec 0.1.0 to 1.1.0, see podway cni install)\n"
)


class Failure(Exception):
    """Code and sentence of an error document."""

    def __init__(self, code: int, msg: str) -> None:
        super().__init__(msg)
        self.code = code


class NoAgent(Exception):
    """No agent did anything, and none will: the call may be carried out in-process."""


def ask(path: str, message: wire.Message, descriptors: list[int]) -> wire.Reply:
    """The agent's reply. Raises NoAgent before a byte was taken or when it serves another namespace;
    Failure when it can't be reached, or was lost with the message."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        _connect(connection, path)
        data = memoryview(wire.encode(message))
        try:
            sent = socket.send_fds(connection, [data], descriptors)
        except ConnectionError:
            raise NoAgent("the agent went away") from None
        try:
            connection.sendall(data[sent:])
        except ConnectionError:
            pass  # it may have answered without reading it all: look for that
        try:
            reply, length = wire.reply_length(_receive(connection, wire.ANSWER_HEADER))
            if reply.kind == wire.ELSEWHERE:
                raise NoAgent("the agent serves another network namespace")
            return reply._replace(stdout=_receive(connection, length))
        except (EOFError, ConnectionError):
            raise Failure(_LATER, f"the agent at {path} went away before it answered; try again") from None
        except wire.WireError:
            raise Failure(_LATER, f"what listens at {path} does not answer as a Podway agent") from None


def _connect(connection: socket.socket, path: str) -> None:
    if len(os.fsencode(path)) >= 108:  # struct sockaddr_un, unix(7)
        raise Failure(_CONFIGURATION, f"socket: {path} is longer than 107 bytes")
    try:
        connection.connect(path)
    except (FileNotFoundError, ConnectionRefusedError):
        raise NoAgent("no agent listens") from None
    except OSError as error:
        raise Failure(_IO, f"can't reach the agent at {path}: {error.strerror}") from None


def _receive(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        more = connection.recv(min(size - len(data), 1 << 20))
        if not more:
            raise EOFError
        data += more
    return bytes(data)


def gather(stdin: bytes) -> tuple[wire.Message, list[int]]:
    """This execution as a message, and its open descriptors, the caller's namespace first."""
    descriptors = [os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)]
    pod_errno = 0
    if pod := os.environb.get(b"CNI_NETNS", b""):
        try:
            descriptors.append(os.open(pod, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY))
        except OSError as error:
            pod_errno = error.errno or 0
    message = wire.Message(
        argv0=os.environb.get(_ARGV0, os.fsencode(sys.argv[0])),
        env=tuple((name, value) for name, value in os.environb.items() if name.startswith(b"CNI_")),
        path=os.environb.get(b"PATH", b""),
        stdin=stdin,
        descriptors=(wire.CALLER + wire.POD)[: len(descriptors)],
        pod_errno=pod_errno,
    )
    return message, descriptors


def read_stdin() -> bytes:
    """All of stdin. Raises Failure 6 beyond the limit, 5 when it can't be read."""
    try:
        data = sys.stdin.buffer.read(wire.STDIN_LIMIT + 1) if sys.stdin else b""
    except OSError as error:
        raise Failure(_IO, f"can't read the network configuration from stdin: {error.strerror}") from None
    if len(data) > wire.STDIN_LIMIT:
        raise Failure(_DECODE, f"the network configuration on stdin is larger than {wire.STDIN_LIMIT} bytes")
    return data


def parse(stdin: bytes) -> dict[str, object]:
    """The configuration. Raises Failure 6."""
    try:
        conf = json.loads(stdin.decode())
    except (ValueError, RecursionError):
        conf = None
    if not isinstance(conf, dict):
        raise Failure(_DECODE, "the network configuration on stdin is not a JSON object of valid UTF-8")
    return conf


def socket_of(conf: dict[str, object]) -> str:
    """The agent's socket, "" when the configuration names none. Raises Failure 7."""
    path = conf.get("socket")
    if path is not None and (not isinstance(path, str) or "\0" in path):
        raise Failure(_CONFIGURATION, "socket: must be a string without NUL, the path of the agent's socket")
    return path or ""


def _fallback_of(conf: dict[str, object]) -> list[str]:
    argv = conf.get("fallback") or []
    if not isinstance(argv, list) or not all(isinstance(one, str) and "\0" not in one for one in argv):
        raise Failure(_CONFIGURATION, "fallback: must be an array of at most 64 strings without NUL")
    return argv


def _run_in_process(argv: list[str], stdin: bytes, why: str) -> NoReturn:
    if not argv:
        raise Failure(_LATER, f"{why}, and the configuration has no fallback command")
    fd = os.memfd_create("podway-cni-stdin")
    with open(fd, "wb", closefd=False) as copy:
        copy.write(stdin)
    os.lseek(fd, 0, os.SEEK_SET)
    os.dup2(fd, 0)
    os.close(fd)
    os.environb.setdefault(_ARGV0, os.fsencode(sys.argv[0]))
    try:
        os.execv(argv[0], argv)
    except OSError as error:
        raise Failure(_IO, f"{why}, and {argv[0]} can't be run: {error.strerror}") from None


def settings() -> dict[str, object]:
    """The agent of this machine, for configurations that name none: the file beside the executable.

    Raises Failure 7 when it is no JSON object."""
    directory = os.path.dirname(os.path.realpath(os.fsdecode(os.environb.get(_ARGV0, b"")) or sys.argv[0]))
    try:
        with open(os.path.join(directory, SETTINGS), "rb") as file:
            return parse(file.read())
    except OSError:
        return {}
    except Failure:
        what = f"the file {SETTINGS} beside the executable is not a JSON object"
        raise Failure(_CONFIGURATION, what) from None


def agent_of(conf: dict[str, object]) -> tuple[str, list[str]]:
    """(socket, fallback command) of a configuration, or of this machine. Raises Failure 7."""
    path, argv = socket_of(conf), _fallback_of(conf)
    if not path and not argv:
        conf = settings()
        path, argv = socket_of(conf), _fallback_of(conf)
    return path, argv


def _carry_out(conf: dict[str, object], stdin: bytes) -> int:
    path, argv = agent_of(conf)
    try:
        if not path:
            raise NoAgent("the configuration names no agent socket")
        message, descriptors = gather(stdin)
        reply = ask(path, message, descriptors)
    except NoAgent as error:
        _run_in_process(argv, stdin, str(error))
    _print(reply.stdout)
    return reply.exit_code


def _print(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _document(value: dict[str, object]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def main() -> int:
    """Carry out this execution; the exit code."""
    name = os.path.basename(os.fsdecode(os.environb.get(_ARGV0, b"")) or sys.argv[0])
    if name == "dhcp" and sys.argv[1:2] == ["daemon"]:
        from podway.cni import dhcp_daemon

        dhcp_daemon.wait(sys.argv[2:])
    command = os.environ.get("CNI_COMMAND", "")
    if not command:
        sys.stderr.write(_ABOUT)
        return 0
    version = VERSIONS[-1]
    try:
        stdin = read_stdin()
        if command == "VERSION":
            _print(_document({"cniVersion": version_of(stdin), "supportedVersions": VERSIONS}))
            return 0
        conf = parse(stdin)
        version = version_of(stdin)
        return _carry_out(conf, stdin)
    except Failure as error:
        msg = str(error).encode("utf-8", "replace").decode()
        _print(_document({"cniVersion": version, "code": error.code, "msg": msg}))
        return 1
    except OSError as error:
        _print(_document({"cniVersion": version, "code": _IO, "msg": str(error.strerror)}))
        return 1


def version_of(stdin: bytes) -> str:
    """The configuration's version if it is supported, else the newest."""
    try:
        found = parse(stdin).get("cniVersion")
    except Failure:
        return VERSIONS[-1]
    return found if isinstance(found, str) and found in VERSIONS else VERSIONS[-1]


if __name__ == "__main__":
    raise SystemExit(main())

"""Asking a running agent, over its Unix socket beside the CNI one."""

from __future__ import annotations

import http.client
import socket

import msgspec

from podway.agent.status import AgentStatus
from podway.model.errors import Unavailable

TIMEOUT = 5.0


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self.sock.settimeout(TIMEOUT)
        self.sock.connect(self._path)


def status(path: str) -> AgentStatus:
    """The status of the agent at ``path`` (agent.sock). Raises Unavailable when nobody answers."""
    connection = _Connection(path)
    try:
        connection.request("GET", "/status")
        return msgspec.json.decode(connection.getresponse().read(), type=AgentStatus)
    except (OSError, http.client.HTTPException, msgspec.MsgspecError) as error:
        raise Unavailable(
            f"no agent answers: {error}", path, "start podway agent, or name its --socket"
        ) from error
    finally:
        connection.close()

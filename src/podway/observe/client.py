"""Asking a running agent, over its Unix socket beside the CNI one."""

from __future__ import annotations

import http.client
import socket
from typing import TypeVar

import msgspec

from podway.agent.dhcp_report import LeaseReport
from podway.agent.reports import AgentStatus, PeerPath, PeerReport
from podway.agent.sessions import BgpStatus
from podway.bird.replies import BgpRoute
from podway.model.errors import Unavailable

TIMEOUT = 5.0
T = TypeVar("T")


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
    return _ask(path, "/status", AgentStatus)


def peers(path: str) -> list[PeerReport]:
    """What the agent at ``path`` found out of its peers. Raises Unavailable when nobody answers."""
    return _ask(path, "/peers", list[PeerReport])


def choices(path: str) -> list[PeerPath]:
    """How the agent at ``path`` chose to reach its peers. Raises Unavailable when nobody answers."""
    return _ask(path, "/paths", list[PeerPath])


def leases(path: str) -> list[LeaseReport]:
    """The DHCP leases of pods that the agent at ``path`` extends. Raises Unavailable when nobody answers."""
    return _ask(path, "/leases", list[LeaseReport])


def bgp(path: str) -> BgpStatus:
    """What the agent at ``path`` knows of its BIRD. Raises Unavailable when nobody answers."""
    return _ask(path, "/bgp", BgpStatus)


def bgp_routes(path: str) -> list[BgpRoute]:
    """What BGP peers have told the node of the agent at ``path``. Raises Unavailable when nobody answers."""
    return _ask(path, "/bgp/routes", list[BgpRoute])


def _ask(path: str, page: str, kind: type[T]) -> T:
    connection = _Connection(path)
    try:
        connection.request("GET", page)
        return msgspec.json.decode(connection.getresponse().read(), type=kind)
    except (OSError, http.client.HTTPException, msgspec.MsgspecError) as error:
        raise Unavailable(
            f"no agent answers: {error}", path, "start podway agent, or name its --socket"
        ) from error
    finally:
        connection.close()

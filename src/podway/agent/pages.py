"""What the agent shows over HTTP: to ``podway`` on a socket of its own, to scrapers and probes over TCP."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import msgspec

from podway.agent import metrics
from podway.agent.dhcp_report import LeaseReport
from podway.agent.health import Health
from podway.agent.http import Pages
from podway.agent.reports import AgentStatus, PeerPath
from podway.agent.speaker import BirdKeeper
from podway.model.errors import PodwayError

Response = tuple[int, str, bytes]  # status, content type, body

_log = logging.getLogger("podway")


def _json(value: object) -> Response:
    return 200, "application/json", msgspec.json.encode(value)


class AgentPages:
    """The pages of one agent. ``describe``, ``paths`` and ``leases`` are asked anew for each request."""

    def __init__(
        self,
        describe: Callable[[], AgentStatus],
        paths: Callable[[], tuple[PeerPath, ...]],
        leases: Callable[[], list[LeaseReport]],
        health: Health,
        bird: BirdKeeper,
    ) -> None:
        self._describe = describe
        self._paths = paths
        self._leases = leases
        self._bird = bird
        self._pages = Pages(
            {
                "/healthz": self._healthz,
                "/readyz": health.readyz,
                "/metrics": self._metrics,
                "/status": self._status,
                "/peers": health.page,
                "/bgp": self._bgp,
                "/bgp/routes": self._bgp_routes,
                "/paths": self._of_paths,
                "/leases": self._of_leases,
            }
        )

    async def start(self, socket: Path, listen: str) -> list[asyncio.Server]:
        """Serve on ``socket``, root's alone, and at ``listen`` ("host:port"; "" is no TCP port at all).

        A TCP port that can't be had is logged: no reason to leave pods without their agent."""
        socket.unlink(missing_ok=True)
        servers = [await asyncio.start_unix_server(self._pages.serve, socket)]
        socket.chmod(0o600)
        if listen:
            host, _, port = listen.rpartition(":")
            try:
                servers.append(await asyncio.start_server(self._pages.serve, host.strip("[]"), int(port)))
            except OSError as error:
                _log.warning("no metrics over TCP", extra={"why": str(error)})
        return servers

    async def _healthz(self) -> Response:
        await self._bird.refresh()
        problems = self._describe().problems
        text = "".join(f"{problem}\n" for problem in problems) or "ok\n"
        return (503 if problems else 200), "text/plain", text.encode()

    async def _metrics(self) -> Response:
        await self._bird.refresh()
        return 200, "text/plain; version=0.0.4", metrics.render(self._describe())

    async def _status(self) -> Response:
        await self._bird.refresh()
        return _json(self._describe())

    async def _bgp(self) -> Response:
        await self._bird.refresh()
        return _json(self._bird.status())

    async def _bgp_routes(self) -> Response:
        try:
            return _json(await self._bird.routes())
        except PodwayError as error:
            return 503, "text/plain", f"{error}\n".encode()

    async def _of_paths(self) -> Response:
        return _json(self._paths())

    async def _of_leases(self) -> Response:
        return _json(self._leases())

"""BIRD's control socket: ask, and read the whole reply."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from podway.bird import replies
from podway.model.errors import InvalidInput, Unavailable

PATIENCE = 5.0  # seconds: BIRD answers in milliseconds, or hangs
MOST = 64 << 20  # bytes of one reply; 100 000 routes are about 40 MB

_END = re.compile(rb"(?:^|\n)(?!0001)\d{4} [^\n]*\n\Z")


class Client:
    """A connection for each question: BIRD may have been started anew since the last."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def ask(self, command: str) -> str:
        """The reply to one command. Raises Unavailable for no answer, InvalidInput when BIRD refuses."""
        try:
            async with asyncio.timeout(PATIENCE):
                reply = await self._exchange(command)
        except (OSError, TimeoutError, EOFError) as error:
            why = str(error) or f"no answer within {PATIENCE:.0f} s"
            raise Unavailable(f"BIRD does not answer: {why}", str(self._path)) from error
        refused = replies.error_of(reply)
        if refused:
            raise InvalidInput(f"BIRD refuses: {refused}", command)
        return reply

    async def _exchange(self, command: str) -> str:
        """A bare socket, and the question before the welcome: it is asked every other second, and waking
        up is what that costs."""
        loop, reply = asyncio.get_running_loop(), bytearray()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as made:
            await loop.sock_connect(made, str(self._path))
            await loop.sock_sendall(made, command.encode() + b"\n")
            while not _END.search(reply, max(0, len(reply) - 4096)):
                piece = await loop.sock_recv(made, 1 << 20)
                if not piece or len(reply) > MOST:
                    raise EOFError("the reply breaks off")
                reply += piece
        if not reply.startswith(b"0001"):
            raise EOFError(f"unexpected welcome {bytes(reply[:40])!r}")
        return reply.decode(errors="replace")

    async def traces(self) -> AsyncIterator[str]:
        """What BIRD traces, line by line, until it ends; an empty line when it has begun to tell. Raises
        OSError when none is there."""
        reader, writer = await asyncio.open_unix_connection(self._path)
        try:
            writer.write(b"echo { trace }\n")
            while line := await reader.readline():
                yield "" if line.startswith(b"0000") else line.decode(errors="replace").strip()
        finally:
            writer.close()

    async def standings(self) -> Mapping[str, replies.Standing]:
        """What every BGP session is and since when, by name."""
        return replies.standings(await self.ask("show protocols"))

    async def sessions(self) -> list[replies.SessionState]:
        """Every BGP session, with all that is known of it."""
        return replies.sessions(await self.ask("show protocols all"))

    async def keeping(self, name: str = "") -> list[str]:
        """Sessions, or whether it is this one, that are down and whose routes are kept (RFC 4724)."""
        one = f' "{name}"' if name else ""
        return replies.keeping(await self.ask(f"show protocols all{one}"))

    async def bfd(self) -> list[replies.BfdState]:
        """Every BFD session; none when BFD isn't configured."""
        try:
            return replies.bfd(await self.ask("show bfd sessions"))
        except InvalidInput:
            return []

    async def routes(self) -> list[replies.BgpRoute]:
        """Every route that a session brought."""
        return replies.routes(await self.ask("show route all"))

    async def configure(self, file: Path) -> None:
        """Read a file and take it up, without touching sessions that it leaves alone."""
        await self.ask(f'configure "{file}"')

    async def shut_down(self) -> None:
        """End BIRD for good: its sessions are closed, its routes go."""
        await self.ask("down")

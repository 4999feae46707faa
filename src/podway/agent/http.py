"""A few read-only pages over HTTP/1.1 (RFC 9112): enough for a probe, a scraper and ``podway status``.

GET only, one request a connection, no body read. A web framework costs more memory than the agent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

Page = Callable[[], Awaitable[tuple[int, str, bytes]]]  # → status, content type, body
TIMEOUT = 5.0
REASONS = {200: "OK", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}


class Pages:
    """Serves ``pages`` (path → Page)."""

    def __init__(self, pages: dict[str, Page]) -> None:
        self._pages = pages

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The callback of ``asyncio.start_server`` and ``start_unix_server``."""
        try:
            async with asyncio.timeout(TIMEOUT):
                head = await reader.readuntil(b"\r\n\r\n")
                status, kind, body = await self._answer(head)
                reason = REASONS.get(status, "Error")
                lines = f"HTTP/1.1 {status} {reason}\r\nContent-Type: {kind}\r\n"
                writer.write(f"{lines}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode())
                writer.write(body)
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    async def _answer(self, head: bytes) -> tuple[int, str, bytes]:
        method, _, rest = head.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0].decode("latin-1")
        if method not in (b"GET", b"HEAD"):
            return 405, "text/plain", b"GET only\n"
        page = self._pages.get(path)
        if page is None:
            return 404, "text/plain", ("pages: " + " ".join(self._pages) + "\n").encode()
        return await page()

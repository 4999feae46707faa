"""Extends the DHCP leases of pods: out of the journal, so that a restart changes nothing.

A lease is asked for on a thread that enters the pod for the moments of a question; when, says the pure
``ipam.lease``. One that ran out, or was refused, takes the interface down, as the contract with the server
demands, and is in ``podway journal``.
"""

from __future__ import annotations

import asyncio
import logging
import time

import msgspec

from podway.agent.dhcp_report import POD_GONE
from podway.agent.writer import REPAIR, Writer
from podway.ipam import lease as times
from podway.model.dropin import Leased, Piece
from podway.model.objects import Link
from podway.node import dhcp, inside, wiring
from podway.node.database import JournalEntry
from podway.node.engine import NodeEngine

LONGEST = 600.0  # seconds between looks

_log = logging.getLogger("podway.dhcp")


class Leases:
    """Lives on the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, engine: NodeEngine, writer: Writer) -> None:
        self._loop = loop
        self._engine = engine
        self._writer = writer
        self._timer: asyncio.TimerHandle | None = None
        self._asking: dict[str, asyncio.Task[None]] = {}

    def start(self) -> None:
        """Take up those of the journal, and be told of new ones."""
        self._engine.leased = lambda: self._loop.call_soon_threadsafe(self._look)
        self._look()

    def stop(self) -> None:
        """No more questions; those that are on their way end by themselves."""
        self._engine.leased = None
        for task in self._asking.values():
            task.cancel()
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        """Ask for what is due, and come back for the next."""
        if self._timer is not None:
            self._timer.cancel()
        now, soonest = dhcp.now(), LONGEST
        # at once: the writer's thread may change them
        for piece in tuple(self._engine.pieces.known.values()):
            if not isinstance(piece.want, Leased) or piece.want.lost or piece.id in self._asking:
                continue
            due = times.due(piece.want)
            if due <= now:
                self._asking[piece.id] = self._loop.create_task(self._extend(piece, piece.want))
            else:
                soonest = min(soonest, due - now)
        self._timer = self._loop.call_later(soonest, self._look)

    async def _extend(self, piece: Piece, lease: Leased) -> None:
        try:
            new = await self._asked(piece, lease)
            if new is not None:
                changed = msgspec.structs.replace(piece, want=new)
                kept = await self._writer.submit(REPAIR, lambda: self._keep(piece, changed, new))
                if not kept and new.obtained_at != lease.obtained_at:  # it was given back meanwhile
                    await asyncio.to_thread(dhcp.release, changed, new)
        except Exception as error:
            _log.error("a lease", extra={"lease": piece.id, "why": str(error)}, exc_info=error)
            await asyncio.sleep(dhcp.PATIENCE)
        finally:
            self._asking.pop(piece.id, None)
            if self._engine.leased is not None:
                self._look()

    async def _asked(self, piece: Piece, lease: Leased) -> Leased | None:
        action = times.action(lease, dhcp.now())
        if action == "expired":
            return msgspec.structs.replace(lease, lost="it has run out")
        new = await asyncio.to_thread(dhcp.extend, piece, lease, action == "rebind")
        if new is None:  # the pod went; its DEL or GC frees the rest
            new = msgspec.structs.replace(lease, lost=POD_GONE)
        if new.lost:  # before its time
            new = msgspec.structs.replace(new, expires_at=min(new.expires_at, dhcp.now()))
        return new

    def _keep(self, before: Piece, after: Piece, lease: Leased) -> bool:
        """On the writer's thread. Whether the lease was still as it was when it was asked for."""
        if not self._engine.pieces.amend(before, after):
            return False
        if lease.lost:
            self._lose(after, lease)
        return True

    def _lose(self, after: Piece, lease: Leased) -> None:
        with inside.living(after) as fd:
            if fd is not None:
                down = Link(name=after.ifname, kind="", up=False)
                wiring.program_pod(self._engine.kernel, [down], fd, f"container {after.container}")
        entry = JournalEntry(time.time(), "lost", f"lease {lease.address}", lease.lost, 0.0, "")
        self._engine.database.journal_add([entry])
        _log.warning("a lease is lost", extra={"lease": after.id, "why": lease.lost})

"""The kernel's events: which of them make what worth a look, and who made them. Nothing is written here."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence

from podway.agent import culprit
from podway.agent.dirty import FACTS, LEARNED, dirty
from podway.agent.ears import Ears
from podway.kernel.facade import ALL_KINDS, NFT_KINDS
from podway.kernel.monitor import Event, Monitor
from podway.kernel.nftables import NftMonitor
from podway.model.objects import Key
from podway.node.engine import NodeEngine

EVERYTHING = ALL_KINDS | {FACTS}
PASSAGES = frozenset({"passage", FACTS})

Mark = Callable[[frozenset[str], Key | None, str], None]  # kinds to look at, what changed, who did it


class KernelEvents:
    """Hears from its making on, so that nothing falls between that and the first look; tells from
    ``listen`` on. All methods run on the event loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, mark: Mark, learned: Callable[[], None]) -> None:
        """``learned``: called for what BIRD brought into the kernel, which the plan takes in."""
        self._monitor, self._nft_monitor = Monitor(), NftMonitor()
        self._mark = mark
        self._learned = learned
        readers = {self._monitor.fileno(): self._links, self._nft_monitor.fileno(): self._nft}
        self._ears = Ears(loop, readers)

    def listen(self, engine: NodeEngine) -> None:
        """Read from now on what others did than ``engine``, against what it has planned."""
        self._planner, self._reconciler = engine.planner, engine.reconciler
        self._own = engine.kernel.portids
        self._ears.listen()

    def hushed(self) -> contextlib.AbstractContextManager[None]:
        """While a pod waits for its answer, events wait too (see ``Ears``)."""
        return self._ears.hushed()

    def _links(self) -> None:
        desired = self._planner.desired
        uplinks = frozenset(uplink.name for uplink in self._planner.inputs.facts.uplinks)
        for event in self._without_births(self._monitor.read()):
            if event.overflow:
                self._mark(EVERYTHING, None, "")
                continue
            if event.portid in self._own:
                continue
            kinds = dirty(event.kind, event.key, event.object, event.deleted, desired, uplinks)
            if LEARNED in kinds:
                self._learned()
            elif kinds:
                self._mark(kinds, event.key, culprit.of(event.portid, event.object))

    def _without_births(self, events: Sequence[Event]) -> list[Event]:
        """Of a link that was just made only the last event: those before show it half made."""
        made, self._reconciler.made = self._reconciler.made, set()
        last = {event.key: event for event in events if event.key in made}
        return [event for event in events if last.get(event.key, event) is event]

    def _nft(self) -> None:
        for event in self._nft_monitor.read():
            if (event.overflow or event.foreign) and self._planner.manages_firewalls:
                self._mark(PASSAGES, None, "")
            if event.foreign:
                continue
            if event.overflow or event.portid not in self._own:
                self._mark(NFT_KINDS, event.key, culprit.of(event.portid, None))

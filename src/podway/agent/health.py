"""Peers' verdicts and this node's readiness: what the prober finds out, put beside what is programmed.

Runs on the event loop. Of the engine it reads what the writer thread replaces as a whole, and single
entries of dictionaries; what it finds out for the plan (MTU holes) goes to the writer thread.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Collection

import msgspec

from podway.agent import handshakes, targets
from podway.agent.prober import Prober
from podway.agent.reports import PathReport, PeerReport
from podway.model.objects import Key, family_of
from podway.node.engine import NodeEngine
from podway.plan import narrow
from podway.probe import finding, readiness, rotation, verdict
from podway.probe.finding import Path
from podway.probe.readiness import Look, Readiness
from podway.probe.verdict import Peer

UNHEARD = ("silent", "refused")
WELL = ("ok", "unknown")
LOOK = 0.1  # seconds at least between two looks at readiness


class Health:
    """``narrowed`` gets all known MTU holes whenever they change; ``suspect`` says who is not waited for."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        engine: NodeEngine,
        port: int,
        narrowed: Callable[[narrow.Holes], None],
        suspect: Callable[[], Collection[str]],
    ) -> None:
        self._loop = loop
        self._engine = engine
        self._narrowed = narrowed
        self._suspect = suspect
        self._holes = dict(engine.planner.inputs.holes)
        self._prober = Prober(loop, engine.node, port, self._paths, self._first, self._told)
        self._known: frozenset[str] = frozenset()
        self._looking: asyncio.TimerHandle | None = None
        self._log = logging.getLogger("podway")
        self.readiness = Readiness()

    def start(self) -> None:
        """Begin to probe."""
        self._prober.start()
        self.looked()

    def stop(self) -> None:
        """Probe no more."""
        self._prober.stop()
        if self._looking is not None:
            self._looking.cancel()
        self._looking = None

    def looked(self) -> None:
        """A pass over the kernel, or over the store, has ended."""
        snapshot = self._engine.cluster.snapshot
        if snapshot.nodes.keys() != self._known:
            self._known = frozenset(snapshot.nodes)
            self._prober.update(self._peers())
            if snapshot.synced:
                kept = {name: holes for name, holes in self._holes.items() if name in self._known}
                self._set_holes(kept)
        moved = self._engine.planner.moved
        for peer in {moved.popleft() for _ in range(len(moved))}:
            self._prober.soon(peer)
        self._look_later()

    def doubt(self, peer: str) -> None:
        """The store has news of a peer's life: its turn is now."""
        self._prober.soon(peer)

    def _peers(self) -> list[str]:
        return [name for name in self._engine.cluster.snapshot.nodes if name != self._engine.node]

    # probes ----------------------------------------------------------------------------------

    def _paths(self, peer: str) -> tuple[Path, ...]:
        node = self._engine.cluster.snapshot.nodes.get(peer)
        return targets.paths(node, self._engine.planner) if node else ()

    def _first(self, peer: str, paths: tuple[Path, ...]) -> Peer:
        """Holes of an earlier run are looked at first, and are in force until they are gone."""
        known = {
            path.name: finding.remembered(size, path)
            for path in paths
            if path.network and (size := self._hole(peer, path))
        }
        return Peer(paths=known, diagnose=bool(known))

    def _hole(self, peer: str, path: Path) -> int:
        return narrow.hole(self._holes, peer, path.network, family_of(path.target))

    def _told(self, name: str, paths: tuple[Path, ...], before: Peer) -> None:
        peer = self._prober.peers[name]
        if peer.verdict.name != before.verdict.name:
            words = {"peer": name, "verdict": peer.verdict.title, "why": peer.verdict.reason}
            self._log.log(_level(before, peer), "peer", extra=words)
        self._keep_holes(name, paths, peer)
        self._look_later()

    def _keep_holes(self, name: str, paths: tuple[Path, ...], peer: Peer) -> None:
        """A hole is forgotten when its path carries all again, not while nothing is known of it."""
        holes = dict(self._holes.get(name, {}))
        for (network, family), size in verdict.passes(peer, paths).items():
            holes[f"{network}/{family}"] = size
        self._set_holes({**self._holes, name: {key: size for key, size in holes.items() if size}})

    def _set_holes(self, holes: narrow.Holes) -> None:
        known = {name: found for name, found in holes.items() if found}
        if known != self._holes:
            self._holes = known
            self._narrowed(known)

    # readiness -------------------------------------------------------------------------------

    def _look_later(self, delay: float = LOOK) -> None:
        if self.readiness.ready:
            return
        at = self._loop.time() + delay
        if self._looking is not None:
            if self._looking.when() <= at:
                return
            self._looking.cancel()
        self._looking = self._loop.call_at(at, self._look)

    def _look(self) -> None:
        self._looking = None
        now = self._loop.time()
        self.readiness = readiness.step(self.readiness, self._now_seen(), now)
        if self.readiness.ready:
            self._log.info("all peers", extra={"readiness": readiness.sentence(self.readiness)})
        elif self.readiness.deadline is not None:
            self._look_later(max(LOOK, self.readiness.deadline - now))

    def _now_seen(self) -> Look:
        cluster = self._engine.cluster
        if not cluster.snapshot.synced and not cluster.snapshot.nodes:
            return Look(store=f"store: {cluster.trouble}")
        suspect = self._suspect()
        peers = [peer for peer in self._peers() if peer not in suspect]
        known = self._prober.peers
        programming = self.readiness.phase == "programming"
        return Look(
            unprogrammed=self._unprogrammed(peers) if programming else {},
            unanswered=tuple(peer for peer in peers if peer not in known or not known[peer].answered),
            sweep=rotation.sweep(len(peers)),
        )

    def _unprogrammed(self, peers: list[str]) -> dict[str, int]:
        """Peer → how many of the kernel objects for it don't stand, and blocks that BGP hasn't brought."""
        missing: dict[str, int] = {}
        planner = self._engine.planner
        unlearned = set(planner.unlearned)
        for peer in peers:
            count = sum(not self._engine.reconciler.stands((key,)) for key in self._keys(peer))
            count += sum(block.cidr in unlearned for block in planner.blocks_of(peer))
            if count:
                missing[peer] = count
        return missing

    def _keys(self, peer: str) -> list[Key]:
        planner = self._engine.planner
        fragments = [("node", peer), *(("block", block.cidr) for block in planner.blocks_of(peer))]
        return [one.key for kind, name in fragments for one in planner.fragment(kind, name)]

    # what people see ---------------------------------------------------------------------------

    @property
    def probes(self) -> Counter[str]:
        """What became of all probes: "sent", "answered", "refused", "damaged", "foreign"."""
        return self._prober.counts

    def verdicts(self) -> dict[str, Peer]:
        """Peer → what is known of it, those not probed yet included."""
        return {name: self._prober.peers.get(name, Peer()) for name in sorted(self._peers())}

    def dead(self) -> frozenset[str]:
        """Peers that answer nothing at all."""
        return frozenset(name for name, peer in self._prober.peers.items() if peer.verdict.name == "dead")

    def reports(self) -> list[PeerReport]:
        """All peers, by name."""
        return self._reports(self.verdicts())

    def failing(self) -> list[str]:
        """A sentence for each peer whose verdict is neither ok nor still unknown."""
        bad = {name: one for name, one in self.verdicts().items() if one.verdict.name not in WELL}
        return [f"peer {one.name}: {one.title}: {one.reason}; {one.fix}" for one in self._reports(bad)]

    def _reports(self, peers: dict[str, Peer]) -> list[PeerReport]:
        met = handshakes.look(self._engine.planner) if peers else {}
        return [self._report(name, peer, met) for name, peer in peers.items()]

    def _report(self, name: str, peer: Peer, met: handshakes.Met) -> PeerReport:
        paths = tuple(self._path_report(name, path, peer, met) for path in self._paths(name))
        silent = [path for path in paths if path.handshake is not None and path.finding in UNHEARD]
        why = {handshakes.words(path.handshake or 0, time.time(), path.carrier): None for path in silent}
        return PeerReport(
            name=name,
            verdict=peer.verdict.name,
            title=peer.verdict.title,
            reason="; ".join((peer.verdict.reason, *why)),
            fix=peer.verdict.fix,
            since=peer.since,
            paths=paths,
        )

    def _path_report(self, name: str, path: Path, peer: Peer, met: handshakes.Met) -> PathReport:
        known = peer.paths.get(path.name, finding.NEW)
        passes = {"ok": path.full, "hole": known.size}.get(known.finding, 0)
        tunnel = handshakes.tunnel(self._engine.planner, name, path.network) if path.carrier else None
        return PathReport(
            layer=path.layer,
            network=path.network,
            target=path.target,
            carrier=path.carrier,
            finding=known.finding,
            mtu=passes,
            expected_mtu=path.full,
            milliseconds=known.rtt * 1000,
            answered=known.answered,
            handshake=met.get(tunnel, 0) if tunnel is not None else None,
        )

    async def readyz(self) -> tuple[int, str, bytes]:
        """The page ``/readyz``: 200 once and for all, or 503 and what is missing, a line each."""
        state = self.readiness
        text = readiness.sentence(state) if state.ready else "\n".join(state.missing)
        return (200 if state.ready else 503), "text/plain", f"{text}\n".encode()

    async def page(self) -> tuple[int, str, bytes]:
        """The page ``/peers``: a list of PeerReport."""
        return 200, "application/json", msgspec.json.encode(self.reports())


def _level(before: Peer, after: Peer) -> int:
    """That a peer is found well for the first time is no news."""
    if after.verdict.name != "ok":
        return logging.WARNING
    return logging.INFO if before.asked else logging.DEBUG

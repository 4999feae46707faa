"""The synchronous engine of one node: what the CNI plugin calls, in the agent or without one.

Everything runs on one thread, under ``flock(STATE/writer)``: the agent holds it for life, an
in-process call for its operation. Opening the engine recovers from whatever a crash left.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

import msgspec

from podway.kernel.facade import ALL_KINDS, NFT_KINDS, Kernel
from podway.model.errors import PodwayError, Unavailable
from podway.model.objects import ROUTE_PROTOCOL, Key
from podway.model.resources import Endpoint, NodeFacts, Paths, Snapshot
from podway.node import facts, holes, rebuild, rebuild_pieces
from podway.node.attachments import Attachments
from podway.node.book import AddressBook
from podway.node.cluster import Cluster
from podway.node.database import Database, JournalEntry
from podway.node.devices import Devices
from podway.node.flannel import FlannelParts
from podway.node.keys import Keys
from podway.node.lock import WriterLock
from podway.node.membership import Membership
from podway.node.pieces import Pieces
from podway.node.reconciler import Reconciler, Report
from podway.node.requests import AttachRequest
from podway.node.resize import Resizer
from podway.plan import generation, narrow, targets, transport
from podway.plan.bgp import Told
from podway.plan.mtu import Size
from podway.plan.path import Chosen, PathKey
from podway.plan.planner import Planner
from podway.plan.way import Way
from podway.store import Objects, open_store

STEPS = 4  # at most, of one synchronization; the watch brings the next
TELL_AGAIN = 1.0  # seconds until what could not be told is tried again
MEET = 0.2  # seconds between looks for the handshakes that a change of way waits for
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class NodeEngine:
    """One node's engine. See ``requests.Engine`` for what its CNI methods promise."""

    def __init__(
        self,
        node: str,
        database: Database,
        kernel: Kernel,
        store_url: str,
        opener: Callable[[str], Objects] = open_store,
    ) -> None:
        self.node = node
        self.database = database
        self.kernel = kernel
        self.cluster = Cluster(node, store_url, database, opener)
        self.flannel = FlannelParts(node, time.time)
        self.keys = Keys(database.directory)
        kernel.wireguard.keys = self.keys.private
        self.planner = Planner(self._facts())
        self.planner.update_holes(holes.load(database.directory))
        boot_id = BOOT_ID.read_text().strip()
        self.book = AddressBook(self.cluster, database, self.planner, time.time, self._follow)
        self.attachments = Attachments(database, kernel, self.planner, self.book, boot_id, time.time)
        self.pieces = Pieces(database, kernel, self.planner, self.attachments.burial, boot_id)
        self.devices = Devices(database, kernel, self.planner, boot_id)
        self.reconciler = Reconciler(database, kernel, self.planner, self.attachments, self.pieces, time.time)
        self.resizer = Resizer(database, kernel, self.planner)
        #: tells whoever extends DHCP leases of a new one; None: nobody does
        self.leased: Callable[[], object] | None = None
        self._ahead = False
        self._planned: Snapshot | None = None
        self._changed: set[Key] = set()  # in plan, since the last pass
        self._sizes: dict[str, Size] = {}  # as of the last pass
        self._says: object = None  # what the store said of this node at the last look at it
        self.membership = Membership(node, database.directory, boot_id)
        self._reclaimed = False
        self._lingering = generation.Lingering()
        #: what BIRD is to be told, as of the last synchronization
        self.speaker = Told(None)
        #: when to synchronize again though nothing has changed (monotonic seconds; None: no need)
        self.next_step: float | None = None
        self._more = False  # pods have to follow yet
        self._stood = tuple(kernel.rtnetlink.dump("route", protocol=ROUTE_PROTOCOL).values())
        self._recover(boot_id)
        self.synchronize()

    def _facts(self) -> NodeFacts:
        found = facts.look(self.kernel, self.cluster, self.database.directory)
        return msgspec.structs.replace(found, keys=dict(self.keys.public))

    def _follow_keys(self) -> None:
        """A key stands in the state directory before it is planned; it goes once no way needs it."""
        ways = [way for held in self.planner.inputs.held.values() for way in held.ways]
        needed = {way.text for way in ways if way.transport == "wireguard"}
        changed = self.keys.hold(needed)
        if self.cluster.snapshot.synced:
            changed |= self.keys.drop(needed)
        if changed:
            self.kernel.wireguard.keys = self.keys.private
            self._changed |= self.planner.update_facts(
                msgspec.structs.replace(self.planner.inputs.facts, keys=dict(self.keys.public))
            )
        if needed:
            self._changed |= self.planner.update_met(self.kernel.met())

    def _recover(self, boot_id: str) -> None:
        """Endpoints of an earlier boot are gone with it; half-made and half-deleted ones are undone."""
        if self.database.recovered or self.database.fresh:
            self._rebuild(boot_id)
        self.database.free_earlier_boot(boot_id)
        unfinished: list[Endpoint] = []
        for endpoint, state in self.database.endpoints().values():
            self.book.hold(endpoint)
            self.planner.update_endpoint(endpoint.id, endpoint)
            self.attachments.burial.forget_flows(endpoint)  # the call that published it may have been cut off
            if state != "ready":
                unfinished.append(endpoint)
        for endpoint in unfinished:
            self.attachments.delete(endpoint.container, endpoint.ifname)
        self.pieces.recover()
        self.attachments.burial.complete()

    def _rebuild(self, boot_id: str) -> None:
        """The database was lost, or is new: living pods are entered before anything is compared with it."""
        self.cluster.refresh()
        found = rebuild.endpoints(self.kernel, self.cluster.snapshot.networks, boot_id)
        self.database.restore(found)
        pieces = rebuild_pieces.pieces(self.kernel, boot_id)
        for piece in pieces:
            self.database.begin_piece(piece, "ready")
        now = time.time()
        words = [(one.id, ", ".join(one.addresses)) for one in found]
        words += [(piece.id, ", ".join(piece.addresses)) for piece in pieces]
        if words or self.database.recovered:
            words.insert(0, ("node.db", self.database.recovered or "there was none"))
        self.database.journal_add(JournalEntry(now, "recovered", key, text, 0.0, "") for key, text in words)

    def synchronize(self) -> Report:
        """Take in the store's state and bring the kernel to it. Works on the last one in an outage."""
        return self._take_in(whole=True)

    def follow_store(self) -> Report:
        """The same for what is new only: of what changes in the kernel its own events tell."""
        return self._take_in(whole=False)

    def _take_in(self, whole: bool) -> Report:
        self.cluster.refresh()
        if self.cluster.another:
            self.cluster.another = False
            self.membership.begin_anew()
        report = self._act(whole) if self.membership.look(self.cluster, time.time()) else Report()
        if not self.cluster.registered:
            # a write that was lost to another of one's own has no event that would bring it up again
            self._says = None
            again = time.monotonic() + TELL_AGAIN
            self.next_step = again if self.next_step is None else min(self.next_step, again)
        wake = self.membership.standing.wake
        if wake is not None:
            due = time.monotonic() + max(0.0, wake - time.time())
            self.next_step = due if self.next_step is None else min(self.next_step, due)
        kept = self.cluster.heritage.until
        if kept is not None:
            self.next_step = kept if self.next_step is None else min(self.next_step, kept)
        return report

    def _act(self, whole: bool) -> Report:
        """What a machine does that may act as the node."""
        self._look_at_self(whole)
        if self._introduce():
            self.cluster.refresh()
        with contextlib.suppress(Unavailable):  # the next look goes on with it
            self.cluster.renew()
        self.cluster.unsaved |= self.flannel.join(self.cluster)
        report = self._follow_snapshot(whole)
        if self.cluster.snapshot.synced and not self._reclaimed:
            report += self._reclaim(whole)
        if self._ahead:
            self.claim_ahead()
        if self.book.settle():
            report += self._follow_snapshot(whole)
        for _ in range(STEPS):
            told = self._told()
            if told == self.cluster.own_paths:
                break
            if not self.cluster.tell_paths(told):
                self.next_step = time.monotonic() + TELL_AGAIN
                break
            self.cluster.refresh()  # what was told may allow the next step: see plan.generation
            report += self._follow_snapshot(whole)
        self.cluster.save()
        return report

    def _reclaim(self, whole: bool) -> Report:
        """Once: blocks that went while their pods lived."""
        with contextlib.suppress(Unavailable):
            news = self.book.reclaim(self.planner.inputs.endpoints.values())
            self._reclaimed = True
            if news:
                return self._follow_snapshot(whole)
        return Report()

    def claim_ahead(self) -> None:
        """From now on, have a first block of every network before a pod asks for it."""
        self._ahead = True
        if not self.membership.standing.serves:
            return
        claimed = [self.book.claim_ahead(network) for network in self.cluster.snapshot.networks.values()]
        if any(claimed):
            self._follow_snapshot(whole=False)

    def release_empty(self) -> None:
        """Give back blocks that nobody has had an address of for long."""
        serves = self.membership.standing.serves
        given_back = self.book.release_empty() if serves else []
        if serves and self.book.settle():
            self._follow_snapshot(whole=False)
        now = time.time()
        self.database.journal_add(
            JournalEntry(now, "released", f"block {cidr}", "empty", 0.0, "") for cidr in given_back
        )

    def _introduce(self) -> bool:
        """Tell of one's ways before anything is sent by them. Whether that was news."""
        paths = self._introduction()
        return bool(paths) and self.cluster.tell_paths(paths)

    def _introduction(self) -> dict[str, Paths]:
        """This node's ways with those that it has not told of; {} when it has told of all."""
        networks = self.cluster.snapshot.networks.values()
        told = self.cluster.own_paths
        now = self._now()
        new = {n.name: generation.introduction(self.planner, n, now) for n in networks if n.name not in told}
        return told | new if new else {}

    def _follow_snapshot(self, whole: bool) -> Report:
        """Bring the kernel to the snapshot: by a pass over everything, or by what changed."""
        might = self.reconciler.removals_allowed
        self._plan_snapshot()
        changed, self._changed = self._changed, set()
        # what could not be removed before now can; pods that come may change what their network's links get
        whole = whole or might != self.reconciler.removals_allowed or self._sizes != self.planner.inputs.sizes
        self._sizes = dict(self.planner.inputs.sizes)
        report = self.reconciler.run() if whole else self.reconciler.follow(changed)
        resized, self._more = self.resizer.run()
        return report + self.reconciler.run({"link"}) if resized else report

    def _look_at_self(self, whole: bool) -> None:
        """What the kernel tells by events is looked at again only for what the store may change in it."""
        snapshot = self.cluster.snapshot
        says = (snapshot.nodes.get(self.node), self.cluster.adopted_bridges, snapshot.synced)
        if whole or says != self._says:
            self._says = says
            self.refresh_facts()

    def _now(self) -> generation.Now:
        moved = not any(key[0] == "route" for key in self.reconciler.problems)
        return generation.Now(self.cluster.own_paths, self._receives, self.resizer.pods(), moved)

    def _told(self) -> dict[str, Paths]:
        now = self._now()
        idle = generation.idle(self.planner, now)
        if any(one.kind == "Node" for one in self.cluster.snapshot.unreadable):
            idle = frozenset()  # what that node sends isn't known
        ripe, self.next_step = self._lingering.step(idle, time.monotonic())
        later = [self.next_step, self.cluster.save_at, time.monotonic() if self._more else None]
        later.append(time.monotonic() + MEET if self.planner.is_meeting else None)
        self.next_step = min((at for at in later if at is not None), default=None)
        return generation.told(self.planner, now, ripe)

    def _receives(self, way: Way) -> bool:
        """Whether everything that receives by ``way`` stands in the kernel."""
        keys = transport.receiver(way, self.planner.inputs.facts)
        links = [key for key in keys if key[0] == "link"]
        planned = [key for key in keys if key in self.planner.desired]
        return self.reconciler.stands([*links, *planned])

    def narrow(self, found: narrow.Holes) -> Report:
        """Probes found other MTU holes than were known: routes and clamps follow."""
        holes.save(self.database.directory, found)
        self.planner.update_holes(found)
        return self.reconciler.run({"route"} | NFT_KINDS)

    def choose(self, chosen: Mapping[PathKey, Chosen | None]) -> Report | None:
        """Go the ways that proofs have led to."""
        changed = self.planner.update_paths(chosen)
        if not changed:
            return None
        report = self.reconciler.run({key[0] for key in changed})
        if self._told() != self.cluster.own_paths:
            self.next_step = time.monotonic()  # a peer is sent by another way now
        return report

    def _plan_snapshot(self) -> None:
        if self._stood:
            found = targets.standing(self._stood, self.cluster.snapshot, self.planner.inputs.facts)
            new = {k: p for k, p in found.items() if k not in self.planner.inputs.paths}
            self._changed |= self.planner.update_paths(new)
            if self.cluster.snapshot.synced:
                self._stood = ()
        if self.cluster.snapshot != self._planned:
            self._planned = self.cluster.snapshot
            self._changed |= self.planner.update_snapshot(self._planned)
        self._follow_keys()
        self.reconciler.removals_allowed = self.cluster.snapshot.synced
        if self.planner.carries("bgp"):
            blocks = self.planner.inputs.blocks  # the Internet's may be there too
            self._changed |= self.planner.update_learned({r.dst for r in self.kernel.learned(blocks)})
        self.speaker = self.planner.speaker()

    def _follow(self) -> None:
        """A block was claimed: what its pods need on the node must stand before the first of them."""
        self._plan_snapshot()
        self.reconciler.run({"link", "address", "route"})

    def sweep(self, silent: Collection[str]) -> Report:
        """Look at what changes without an event: these kinds, and what the plan knows of besides."""
        # a route that is somebody else's decides what canReach means; iptables-legacy has no events
        blind = {"passage"} if self.planner.manages_firewalls else set()
        more = self.refresh_facts() if blind or self.planner.inputs.facts.towards else set()
        self.release_empty()
        return self.reconciler.run({*silent, *blind, *more})

    def refresh_facts(self) -> set[str]:
        """Look at the uplinks again and tell the cluster of new addresses. Returns what kinds may change."""
        found = self._facts()
        keys = self.planner.update_facts(found)
        self._changed |= keys
        changed = {key[0] for key in keys}
        if self.membership.standing.serves:
            self.cluster.register(found, self._introduction())
        return set(ALL_KINDS) if "link" in changed else changed

    def look_at_firewalls(self) -> None:
        """Where the host's firewalls drop, which is followed only while something is to pass them."""
        gates = self.kernel.firewalls.gates()
        facts = msgspec.structs.replace(self.planner.inputs.facts, gates=gates)
        self._changed |= self.planner.update_facts(facts)

    def add(self, request: AttachRequest, namespace_fd: int) -> Endpoint:
        """See ``requests.Engine``."""
        self.membership.require()
        endpoint = self.attachments.add(request, namespace_fd)
        self.reconciler.stood(self.planner.fragment("endpoint", endpoint.id))
        return endpoint

    def delete(self, container: str, ifname: str, namespace_fd: int = -1) -> None:
        """See ``requests.Engine``. The links go at the burial, or when the engine closes."""
        self.attachments.delete(container, ifname, namespace_fd)

    def check(self, request: AttachRequest, namespace_fd: int, addresses: tuple[str, ...]) -> None:
        """See ``requests.Engine``."""
        self.attachments.check(request, namespace_fd, addresses)

    def gc(self, network: str, configuration: str, valid: frozenset[tuple[str, str]]) -> None:
        """See ``requests.Engine``. Goes on past errors and raises the first."""
        first: PodwayError | OSError | None = None
        for endpoint in list(self.attachments.endpoints.values()):
            mine = endpoint.network == network and endpoint.configuration in (configuration, "")
            if mine and (endpoint.container, endpoint.ifname) not in valid:
                try:
                    self.delete(endpoint.container, endpoint.ifname)
                except (PodwayError, OSError) as error:
                    first = first or error
        self.attachments.burial.complete()
        if first is not None:
            raise first

    def status(self, network: str) -> None:
        """See ``requests.Engine``."""
        self.database.probe()
        self.membership.require()
        self.book.network(network)
        _, refusals, _ = self.reconciler.plan({"link"})
        for refusal in refusals:
            raise Unavailable(refusal.reason, " ".join(refusal.key), refusal.fix)

    def close(self) -> None:
        """Finish pending removals and let go of everything."""
        try:
            self.attachments.burial.complete()
        finally:
            self.flannel.close()
            self.cluster.save(now=True)
            self.cluster.close()
            self.kernel.close()
            self.database.close()


@contextlib.contextmanager
def open_engine(
    node: str,
    state_dir: str,
    store_url: str,
    lock_timeout: float = 0.0,
    opener: Callable[[str], Objects] = open_store,
) -> Iterator[NodeEngine]:
    """An engine under the writer lock. Raises Busy when another process holds it.

    ``opener`` gives the store at a URL: an agent has one that never keeps the writer waiting."""
    Path(state_dir).mkdir(parents=True, exist_ok=True, mode=0o700)
    with WriterLock(state_dir, lock_timeout):
        kernel = Kernel()
        database = Database.open(state_dir)
        engine = NodeEngine(node, database, kernel, store_url, opener)
        try:
            yield engine
        finally:
            engine.close()

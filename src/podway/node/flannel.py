"""interop: flannel-etcd. This node's part in the Flannel of its networks: its lease, and others' leases.

``look`` asks Flannel's etcd and brings this node's lease to what it should be; it may wait for a network, so
an agent gives it a thread of its own. ``take_in`` puts what was seen into the cluster's snapshot, on the
writer thread, and waits for nothing of Flannel's. Nothing is asked while nothing changed: a watch, the half
of the lease's life, an own address or block that changed, or a trouble that is tried again make it due.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import msgspec

from podway.ipam.flannel import Drop, Held, Me, Take, next_action, own
from podway.model import flannel as model
from podway.model.errors import InvalidInput, PodwayError
from podway.model.flannel import Config
from podway.model.resources import ForeignBlock, Network, Snapshot
from podway.plan.notes import Note
from podway.plan.transport import tunnel, vxlan
from podway.plan.way import Way
from podway.store.protocol import StoreUnavailable

if TYPE_CHECKING:
    from podway.store.flannel import Gone, LeaseStore, LeaseWatch, Listed

RETRY = 2.0  # seconds until a trouble is looked at again
ROUNDS = 20  # of an action and another look; others who write at the same moment make for more than one


class Cluster(Protocol):
    """What is needed of ``node.cluster``."""

    snapshot: Snapshot

    def hold_block(self, network: Network, cidr: str) -> str: ...


class Seen(msgspec.Struct, frozen=True):
    """What a look found: this node's subnets, others' blocks (None: not known), and what is wrong."""

    own: tuple[str, ...] = ()
    foreigns: dict[str, ForeignBlock] | None = None
    notes: tuple[Note, ...] = ()


class _Part(msgspec.Struct):
    """One network's state. ``due``: seconds since 1970 from which it must be looked at again."""

    network: Network
    store: LeaseStore
    me: Me
    blocks: tuple[str, ...] = ()  # this node's in the store, at the last look
    due: float = 0.0
    changed: bool = False  # set by the loop's thread, cleared before it is looked
    gone: int = 0  # leases of this node's that went, as far as was heard
    mended: int = 0  # up to how many of them its lease was written again
    watch: LeaseWatch | None = None
    seen: Seen = Seen()


class FlannelParts:
    """``follow``: keep watches open, for an agent to read; ``now`` is wall clock in seconds."""

    def __init__(self, node: str, now: Callable[[], float]) -> None:
        self.follow = False
        self._node = node
        self._now = now
        self._parts: dict[str, _Part] = {}  # replaced as a whole: three threads look at it
        self._wrong: list[Note] = []
        #: watches that the agent's loop has to let go of: it may be listening at them
        self.retired: list[LeaseWatch] = []

    @property
    def notes(self) -> list[Note]:
        """What keeps this node from taking part, or a lease from being used."""
        return [*self._wrong, *(note for part in self._parts.values() for note in part.seen.notes)]

    def next_due(self, snapshot: Snapshot) -> float | None:
        """When (seconds since 1970) there is something to ``look`` at; None: never, as things are."""
        wanted = {network.name: network for network in _shared(snapshot)}
        if wanted.keys() != self._parts.keys():
            return 0.0
        due = [0.0 if self._is_stale(part, snapshot) else part.due for part in self._parts.values()]
        return min(due, default=None)

    def _is_stale(self, part: _Part, snapshot: Snapshot) -> bool:
        network = snapshot.networks[part.network.name]
        now = (network, self._me(network, snapshot), self._blocks(network, snapshot))
        return part.changed or now != (part.network, part.me, part.blocks)

    def _blocks(self, network: Network, snapshot: Snapshot) -> tuple[str, ...]:
        """This node's blocks of a network."""
        blocks = snapshot.blocks.values()
        return tuple(
            sorted(b.cidr for b in blocks if b.spec.node == self._node and b.spec.network == network.name)
        )

    # on the thread that may wait -------------------------------------------------------------------

    def look(self, snapshot: Snapshot) -> bool:
        """Hold the lease in Flannel's etcd, and see the others'. Whether anything is other than before."""
        before = (self._wrong, {name: part.seen for name, part in self._parts.items()})
        wanted = {network.name: network for network in _shared(snapshot)}
        for name in [name for name in self._parts if name not in wanted]:
            self._forget(name)
        wrong: list[Note] = []
        for network in wanted.values():
            try:
                self._look(self._part(network, snapshot), snapshot)
            except InvalidInput as error:
                wrong.append(Note(f"network {network.name}", error.what, error.fix))
        self._wrong = wrong
        return before != (wrong, {name: part.seen for name, part in self._parts.items()})

    def _look(self, part: _Part, snapshot: Snapshot) -> None:
        if part.due > self._now() and not self._is_stale(part, snapshot):
            return
        part.due, part.changed = self._now() + RETRY, False
        part.me = self._me(part.network, snapshot)
        part.blocks = self._blocks(part.network, snapshot)
        try:
            part.seen = self._settle(part, snapshot)
        except PodwayError as error:
            note = Note(f"network {part.network.name}", f"Flannel's etcd: {error.what}", error.fix)
            part.seen = msgspec.structs.replace(part.seen, notes=(note,))

    def _part(self, network: Network, snapshot: Snapshot) -> _Part:
        """The state of a network; anew when what it says changed."""
        part = self._parts.get(network.name)
        if part is not None and part.network == network:
            return part
        if part is not None:
            self._forget(network.name)
        from podway.store.flannel import LeaseStore  # a client of etcd's, which few nodes need

        part = _Part(network, LeaseStore(network.spec.flannel.etcd), self._me(network, snapshot))
        self._parts = self._parts | {network.name: part}
        return part

    def _forget(self, name: str) -> None:
        part = self._parts[name]
        self._parts = {other: one for other, one in self._parts.items() if other != name}
        self._let_go(part)
        part.store.close()

    def _let_go(self, part: _Part) -> None:
        if part.watch is not None:
            self.retired.append(part.watch)
            part.watch = None

    def _me(self, network: Network, snapshot: Snapshot) -> Me:
        own_node = snapshot.nodes.get(self._node)
        found = {family: tunnel.outer(own_node, Way("vxlan", underlay=family)) for family in (4, 6)}
        addresses = {family: address for family, address in found.items() if address}
        mac = vxlan.vtep_mac(network.name, self._node)
        macs = dict.fromkeys((4, 6), mac) if network.spec.transport == "vxlan" else {}
        return Me(self._node, addresses, macs)

    def _settle(self, part: _Part, snapshot: Snapshot) -> Seen:
        for _ in range(ROUNDS):
            listed = part.store.list()
            notes: list[Note] = []
            config = self._config(part, listed, notes)
            found = self._leases(part, listed, notes)
            if config is None or self._act(part, config, found, snapshot, notes):
                break
        else:
            notes.append(Note(f"network {part.network.name}", "others keep changing this node's lease", ""))
        if self.follow and part.watch is None:
            part.watch = part.store.watch(listed.token)
        if not any(note.subject == f"network {part.network.name}" for note in notes):
            part.due = self._now() + model.LEASE_SECONDS / 4
        mine = own(found, part.blocks, part.me) if config is not None else None
        subnets = tuple(mine.lease.subnets.values()) if mine is not None else ()
        return Seen(subnets, _foreigns(part, found), tuple(notes))

    def _config(self, part: _Part, listed: Listed, notes: list[Note]) -> Config | None:
        """Flannel's configuration, if this network agrees with it."""
        subject = f"network {part.network.name}"
        if listed.config is None:
            notes.append(
                Note(subject, "Flannel's etcd holds no configuration", "etcdctl put PREFIX/config …")
            )
            return None
        try:
            config = model.decode_config(listed.config)
        except InvalidInput as error:
            notes.append(Note(subject, error.what, error.fix))
            return None
        problems = model.disagreements(part.network, config)
        notes += [Note(subject, f"{one.path} is {one.what}", one.fix) for one in problems]
        return None if problems else config

    def _leases(self, part: _Part, listed: Listed, notes: list[Note]) -> dict[str, Held]:
        """What can be read; of this node's own, how long it lives."""
        found: dict[str, Held] = {}
        for key, stored in listed.leases.items():
            try:
                lease = model.decode_lease(key, stored.value)
            except InvalidInput as error:
                notes.append(Note(f"flannel lease {key}", error.what, "delete or mend it in Flannel's etcd"))
                continue
            seconds = part.store.remaining(stored.lease) if part.me.has(lease) else float("inf")
            found[key] = Held(lease, stored.version, seconds)
        return found

    def _act(
        self, part: _Part, config: Config, found: dict[str, Held], snapshot: Snapshot, notes: list[Note]
    ) -> bool:
        """One step towards this node's lease; whether there is none left to do."""
        gone = part.gone
        claimed = [one.cidr for one in snapshot.blocks.values() if one.spec.node != self._node]
        action = next_action(part.network, config, found, part.blocks, claimed, part.me, gone != part.mended)
        if isinstance(action, str):
            fix = "see the leases in Flannel's etcd, and podway get blocks"
            notes.append(Note(f"network {part.network.name}", action, fix))
        elif isinstance(action, Take):
            part.store.create(action.lease.key, model.encode_lease(action.lease), model.LEASE_SECONDS)
        elif isinstance(action, Drop):
            part.store.delete(action.lease.key, action.version)
            part.gone += 1
        elif action is not None:
            text = model.encode_lease(action.lease)
            if part.store.replace(action.lease.key, text, model.LEASE_SECONDS, action.version):
                part.mended = gone
        return action is None or isinstance(action, str)

    # on the writer thread --------------------------------------------------------------------------

    def join(self, cluster: Cluster) -> bool:
        """Take in what was seen, and look first where nobody does it on a thread of its own.

        Whether the cluster's snapshot changed."""
        if not self.follow:
            self.look(cluster.snapshot)
        before = cluster.snapshot
        foreigns: dict[str, ForeignBlock] = {}
        for network in _shared(before):
            part = self._parts.get(network.name)
            known = {cidr: one for cidr, one in before.foreigns.items() if one.network == network.name}
            seen = part.seen if part is not None and part.network == network else Seen()
            foreigns |= known if seen.foreigns is None else seen.foreigns
            if seen.foreigns is None and not known:
                # its peers are not known: their routes of an earlier run must stay
                cluster.snapshot = msgspec.structs.replace(cluster.snapshot, synced=False)
            for cidr in seen.own:
                if part is not None and cidr not in cluster.snapshot.blocks:
                    self._hold(part, cidr, cluster)
        if foreigns != cluster.snapshot.foreigns:
            cluster.snapshot = msgspec.structs.replace(cluster.snapshot, foreigns=foreigns)
        return cluster.snapshot != before

    def _hold(self, part: _Part, cidr: str, cluster: Cluster) -> None:
        """Enter the lease's block in the store, as the other nodes of this cluster look there."""
        try:
            wrong = cluster.hold_block(part.network, cidr)
        except PodwayError as error:
            wrong = error.what
        if wrong:
            note = Note(f"network {part.network.name}", wrong, "remove that Block, or the lease")
            part.seen = msgspec.structs.replace(part.seen, notes=(*part.seen.notes, note))
            part.due = self._now() + RETRY

    # for the agent's loop ------------------------------------------------------------------------

    def begin(self) -> None:
        """Watch from now on, and leave it to the caller to ``look``."""
        self.follow = True
        for part in self._parts.values():
            part.changed = True

    def watches(self) -> dict[str, LeaseWatch]:
        """Open watches by network."""
        return {name: part.watch for name, part in self._parts.items() if part.watch is not None}

    def heard(self, name: str) -> bool:
        """Read what a watch has; whether ``look`` is due."""
        part = self._parts.get(name)
        if part is None or part.watch is None:
            return False
        try:
            changed, gone = part.watch.read()
        except StoreUnavailable:
            self._let_go(part)
            part.gone += 1  # who knows
            part.changed = True
            return True
        if changed:
            part.gone += sum(self._was_mine(part, one) for one in gone)
            part.changed = True
        return changed

    def _was_mine(self, part: _Part, gone: Gone) -> bool:
        try:
            return part.me.has(model.decode_lease(gone.key, gone.value))
        except InvalidInput:
            return False

    def close(self) -> None:
        """Let go of every etcd; the lease lives on, as the data path does."""
        for name in list(self._parts):
            self._forget(name)
        for watch in self.retired:
            watch.close()


def _shared(snapshot: Snapshot) -> list[Network]:
    return [network for network in snapshot.networks.values() if network.spec.interop]


def _foreigns(part: _Part, found: dict[str, Held]) -> dict[str, ForeignBlock]:
    """Blocks of others' leases of this network's kind.

    A node whose address changed has the lease of its old one for a day more, with the same MAC: the address
    that was written last holds for both."""
    name, transport = part.network.name, part.network.spec.transport
    held = [one for one in found.values() if not part.me.has(one.lease) and one.lease.transport == transport]
    latest = {
        (family, mac): one.lease.addresses[family]
        for one in sorted(held, key=lambda one: int(one.version))
        for family, mac in one.lease.macs.items()
    }
    blocks = {}
    for one in held:
        for family, cidr in one.lease.subnets.items():
            mac = one.lease.macs.get(family, "")
            address = latest.get((family, mac), one.lease.addresses.get(family, ""))
            if address:
                blocks[cidr] = ForeignBlock(cidr=cidr, network=name, address=address, mac=mac)
    return blocks

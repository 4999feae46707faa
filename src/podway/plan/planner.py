"""From what is declared to what this node's kernel should hold.

``Desired`` is a union of *fragments*. A fragment belongs to one input object, is a pure function of
that input and of the inputs it declares, and of nothing else, so the cost of a change is the cost of
the fragments that declared it. Identical wants share a key, which lives while any fragment wants it;
differing wants for one key are a conflict: neither is desired, and the kernel keeps what it has.
"""

from __future__ import annotations

import ipaddress
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet

from podway.model.dropin import Passed, Piece
from podway.model.objects import AnyObject, Desired, Key
from podway.model.resources import (
    Block,
    Endpoint,
    ForeignBlock,
    Network,
    Node,
    NodeFacts,
    Paths,
    Snapshot,
    Transport,
)
from podway.plan import bgp, borrowed, detect, doubts, flannel, mtu, narrow, precedence, transport
from podway.plan.attach import bridge
from podway.plan.fragments import BUILDERS, FACTS, POOLS, SHARED, Built, FragmentId, Inputs
from podway.plan.judging import Judge
from podway.plan.notes import Note
from podway.plan.path import Chosen, PathKey
from podway.plan.tally import Tally, said
from podway.plan.targets import Targets, key_of
from podway.plan.transport import wireguard
from podway.plan.way import Way, held, wishes, with_families


def _lodgings(endpoint: Endpoint) -> list[str]:
    """The blocks that a bridged pod's addresses are in: they carry their prefix length."""
    return [str(ipaddress.ip_interface(a).network) for a in endpoint.addresses] if endpoint.bridge else []


class Planner:
    """``desired`` follows the inputs: tell it what changed, learn which keys did.

    ``conflicts``: keys that fragments want differently, with the fragments' ids. ``notes``: what
    can't be planned, and why.
    """

    def __init__(self, facts: NodeFacts) -> None:
        self.inputs = Inputs(facts=facts)
        self.desired: Desired = {}
        self.conflicts: dict[Key, tuple[FragmentId, ...]] = {}
        self._fragments: dict[FragmentId, tuple[AnyObject, ...]] = {}
        self._notes: dict[FragmentId, tuple[Note, ...]] = {}
        self._wants: dict[Key, dict[FragmentId, AnyObject]] = {}
        self._by_network: dict[str, set[FragmentId]] = {}
        self._by_node: dict[str, set[FragmentId]] = {}
        self._links: dict[str, Counter[int]] = {}  # network → MTUs of its pods here, each how often
        self._sends, self._asks = Tally(), Tally()
        self._meeting: set[FragmentId] = set()
        self._paths: dict[str, Counter[Paths]] = {}  # network → what its nodes say, each how often
        #: what has to be proved before it is sent directly
        self.targets = Targets()
        #: nodes whose blocks are reached in another way than before, until somebody takes them out
        self.moved: deque[str] = deque()
        self._judge = Judge()
        self._judged = doubts.Judged(snapshot=Snapshot())
        self._told = Snapshot()
        self._rebuild({FACTS, POOLS, SHARED})

    @property
    def notes(self) -> list[Note]:
        """All notes, ordered by subject."""
        said = {note for notes in self._notes.values() for note in notes}
        return sorted(
            said | {doubt.note for doubt in self._judged.doubts}, key=lambda n: (n.subject, n.reason)
        )

    @property
    def closed(self) -> frozenset[str]:
        """Blocks of this node that no new address may be taken from."""
        return self._judged.closed

    @property
    def avoid(self) -> dict[str, str]:
        """Prefixes that no block may be claimed in: contested pools, and the underlay; and why."""
        return self._judged.avoid

    @property
    def is_calm(self) -> bool:
        """Whether nothing is in doubt, in conflict or kept as it was found."""
        return not self._judged.doubts and not self.kept_as_found

    @property
    def manages_firewalls(self) -> bool:
        """Whether chains of other software that drop what is forwarded are of any concern."""
        asking = any(network.spec.firewall == "manage" for network in self.inputs.networks.values())
        return asking or any(isinstance(piece.want, Passed) for piece in self.inputs.pieces.values())

    def keeps(self, value: AnyObject) -> bool:
        """Whether ``value`` may not be removed: a record that is in doubt could be about it."""
        if not self._judged.doubts:
            return False
        links = {key[1] for key in self.desired if key[0] == "link"}
        return doubts.keeps(self._judged.doubts, value, self.inputs.networks, links)

    @property
    def kept_as_found(self) -> set[Key]:
        """Keys that no pass may touch: conflicts, and whatever stands on a bridge that can't be adopted."""
        networks = [n for n in self.inputs.networks.values() if bridge.refusal(n, self.inputs.facts)]
        if not networks:
            return set(self.conflicts)
        bridges = {bridge.bridge_name(network) for network in networks}
        return set(self.conflicts) | {key for key in self.desired if key[1].split("/")[-2:][0] in bridges}

    def refusal(self, network: Network) -> Note | None:
        """Why no pod can be attached to ``network`` on this node."""
        return bridge.refusal(network, self.inputs.facts)

    def fragment(self, kind: str, name: str) -> tuple[AnyObject, ...]:
        """What one input wants, () when it is unknown."""
        return self._fragments.get((kind, name), ())

    def is_shared(self, key: Key) -> bool:
        """Whether several want it, alike or not."""
        return len(self._wants.get(key, ())) > 1

    def blocks_of(self, node: str) -> list[Block]:
        """A node's blocks, by CIDR. May be asked on any thread."""
        fragments = tuple(self._by_node.get(node, ()))  # at once: the writer's thread may change the set
        found = (self.inputs.blocks.get(cidr) for kind, cidr in fragments if kind == "block")
        return sorted((block for block in found if block is not None), key=lambda block: block.cidr)

    def update_facts(self, facts: NodeFacts) -> set[Key]:
        """Returns the changed keys. Every fragment may look at the facts."""
        if facts == self.inputs.facts:
            return set()
        self.inputs.facts = facts
        for name in self.inputs.networks:
            self._hold(name)
        changed = self._rebuild(set(self._fragments) | {FACTS})
        return changed | self.update_snapshot(self._told)

    def update_endpoint(self, name: str, endpoint: Endpoint | None) -> set[Key]:
        """Add, change or (None) remove one endpoint. Returns the changed keys."""
        return self._rebuild(self._change("endpoint", self.inputs.endpoints, name, endpoint))

    def update_piece(self, name: str, piece: Piece | None) -> set[Key]:
        """Add, change or (None) remove one piece of a drop-in plugin. Returns the changed keys."""
        return self._rebuild(self._change("piece", self.inputs.pieces, name, piece))

    def update_holes(self, holes: narrow.Holes) -> set[Key]:
        """Make what probes found of paths' MTUs what ``holes`` says. Returns the changed keys."""
        before, self.inputs.holes = self.inputs.holes, holes
        peers = [peer for peer in before.keys() | holes.keys() if before.get(peer) != holes.get(peer)]
        return self._rebuild({fragment for peer in peers for fragment in self._by_node.get(peer, ())})

    def update_paths(self, chosen: Mapping[PathKey, Chosen | None]) -> set[Key]:
        """Take in what was chosen for paths; None: nothing is known any more. Returns the changed keys."""
        dirty: set[FragmentId] = set()
        for key, path in chosen.items():
            if self.inputs.paths.get(key) == path:
                continue
            if path is None:
                self.inputs.paths.pop(key, None)
            else:
                self.inputs.paths[key] = path
            for fragment in self._by_node.get(key.node, ()):
                block = self.inputs.blocks.get(fragment[1])
                if block is not None and key_of(block) == key:
                    dirty.add(fragment)
        return self._rebuild(dirty)

    def update_snapshot(self, snapshot: Snapshot) -> set[Key]:
        """Make networks, nodes and blocks what ``snapshot`` says, less what is isolated, all at once.

        Returns the changed keys."""
        self._told = snapshot
        snapshot = detect.with_own(snapshot, self.inputs.facts)
        foreigns = flannel.not_ours(snapshot)
        self._judged = self._judge.step(snapshot, self.inputs.facts)
        snapshot = self._judged.snapshot
        dirty: set[FragmentId] = set()
        for kind, known, new in (
            ("network", self.inputs.networks, snapshot.networks),
            ("node", self.inputs.nodes, snapshot.nodes),
            ("block", self.inputs.blocks, snapshot.blocks | borrowed.blocks(snapshot)),
            ("foreign", self.inputs.foreigns, foreigns),
        ):
            dirty |= self._replace(kind, known, new)
        self.inputs.bgp = snapshot.bgp
        return self._rebuild(dirty)

    def update_learned(self, learned: AbstractSet[str]) -> set[Key]:
        """Make what BIRD has brought into the kernel what ``learned`` says. Returns the changed keys."""
        before, self.inputs.learned = self.inputs.learned, frozenset(learned)
        return self._rebuild({("block", cidr) for cidr in before ^ learned if cidr in self.inputs.blocks})

    def update_met(self, met: AbstractSet[transport.Met]) -> set[Key]:
        """Make the handshakes that were made what ``met`` says. Returns the changed keys."""
        before, self.inputs.met = self.inputs.met, frozenset({None, *met})
        news = {pair[1] for pair in before ^ self.inputs.met if pair is not None}
        if not news:
            return set()
        peers = [n.name for n in self.inputs.nodes.values() if news & wireguard.public_keys(n)]
        return self._rebuild({fragment for peer in peers for fragment in self._by_node.get(peer, ())})

    @property
    def is_meeting(self) -> bool:
        """Whether a peer is sent by another way until a WireGuard handshake is made."""
        return bool(self._meeting)

    @property
    def unlearned(self) -> list[str]:
        """Peers' blocks that BGP alone leads to, and that no peer has told of yet."""
        by_bgp = {name for name in self.carries("bgp") if self.inputs.held[name].wanted.transport == "bgp"}
        inputs = self.inputs
        return [
            cidr
            for cidr, block in inputs.blocks.items()
            if block.spec.network in by_bgp
            and block.spec.node != inputs.facts.name
            and cidr not in inputs.learned
        ]

    def carries(self, transport: Transport) -> frozenset[str]:
        """The networks that have a way of this kind."""
        held = self.inputs.held.items()
        return frozenset(name for name, one in held if any(way.transport == transport for way in one.ways))

    def speaker(self) -> bgp.Told:
        """What this node's BIRD is told."""
        inputs = self.inputs
        pools = {name: inputs.networks[name].spec.pools for name in self.carries("bgp")}
        carried = {name: tuple(pool.cidr for pool in held) for name, held in pools.items()}
        return bgp.speaker(
            bgp.Cluster(inputs.facts, inputs.nodes, inputs.blocks.values(), carried, inputs.bgp)
        )

    def _replace(self, kind: str, known: dict, new: dict) -> set[FragmentId]:  # type: ignore[type-arg]
        dirty: set[FragmentId] = set()
        for name in [name for name in known if name not in new]:
            dirty |= self._change(kind, known, name, None)
        for name, value in new.items():
            old = known.get(name)
            if old is not value and old != value:
                dirty |= self._change(kind, known, name, value)
        return dirty

    def _change(self, kind: str, known: dict, name: str, value: object | None) -> set[FragmentId]:  # type: ignore[type-arg]
        """Take one input in; returns the fragments that have to follow."""
        fragment = (kind, name)
        old = known.get(name)
        self._index(fragment, old, remove=True)
        if value is None:
            known.pop(name, None)
        else:
            known[name] = value
            self._index(fragment, value)
        dirty = {fragment}
        if kind == "network":
            self._hold(name)
            dirty |= {POOLS} | self._by_network.get(name, set())
        for endpoint in (old, value):
            if isinstance(endpoint, Endpoint):
                dirty |= {("block", cidr) for cidr in _lodgings(endpoint) if self._is_peers(cidr)}
        if isinstance(value, Endpoint) and self._hold(value.network):
            dirty |= {("network", value.network)} | self._by_network.get(value.network, set())
        if kind == "node":
            dirty |= self._by_node.get(name, set())
            dirty |= self._count_paths(name, old, value)
        return dirty

    def _is_peers(self, cidr: str) -> bool:
        block = self.inputs.blocks.get(cidr)
        return block is not None and block.spec.node != self.inputs.facts.name

    def _count_paths(self, name: str, old: object | None, new: object | None) -> set[FragmentId]:
        """Keep what the nodes say of their ways; returns the fragments that have to follow."""
        if name == self.inputs.facts.name:
            return self._own_changed(old, new)
        before = old.paths if isinstance(old, Node) else {}
        after = new.paths if isinstance(new, Node) else {}
        dirty: set[FragmentId] = set()
        for network in before.keys() | after.keys():
            counts = self._paths.setdefault(network, Counter())
            counts.update(said(after, network))
            counts.subtract(said(before, network))
            if self._hold(network):
                dirty |= {("network", network)} | self._by_network.get(network, set())
        return dirty

    def _own_changed(self, old: object | None, new: object | None) -> set[FragmentId]:
        """A tunnel begins at the node's own address, and what this node told of its ways allows the next."""
        before, after = (one if isinstance(one, Node) else None for one in (old, new))
        told = [one.paths if one is not None else {} for one in (before, after)]
        moved = before is None or after is None or before.spec != after.spec
        names = {n for n in self.inputs.networks if moved or told[0].get(n) != told[1].get(n)}
        for name in names:
            self._hold(name)
        return {("network", name) for name in names}.union(*(self._by_network.get(n, set()) for n in names))

    def _hold(self, name: str) -> bool:
        """Fold what the nodes say into the ways that this one holds; whether that changed."""
        network = self.inputs.networks.get(name)
        if network is None:
            self.inputs.sizes.pop(name, None)
            return self.inputs.held.pop(name, None) is not None
        said = [paths for paths, count in self._paths.get(name, Counter()).items() if count > 0]
        own, facts = self.inputs.own_paths(name), self.inputs.facts
        links = max((size for size, count in self._links.get(name, {}).items() if count > 0), default=0)
        ways = with_families(network.spec, held(wishes(network.spec), own, said))
        new = ways, mtu.now(network, facts, own, said, links)
        changed = (self.inputs.held.get(name), self.inputs.sizes.get(name)) != new
        self.inputs.held[name], self.inputs.sizes[name] = new
        return changed

    def _index(self, fragment: FragmentId, value: object | None, remove: bool = False) -> None:
        """Keep who depends on which network and node."""
        if isinstance(value, Block):
            pairs = [(self._by_network, value.spec.network), (self._by_node, value.spec.node)]
        elif isinstance(value, ForeignBlock | Endpoint):
            pairs = [(self._by_network, value.network)]
            if isinstance(value, Endpoint):
                self.inputs.lodged.update(dict.fromkeys(_lodgings(value), -1 if remove else 1))
            if isinstance(value, Endpoint) and not value.own_mtu:
                self._links.setdefault(value.network, Counter())[value.mtu] += -1 if remove else 1
        else:
            return
        for index, name in pairs:
            members = index.setdefault(name, set())
            (members.discard if remove else members.add)(fragment)

    def _exists(self, fragment: FragmentId) -> bool:
        kind, name = fragment
        if fragment in (FACTS, POOLS, SHARED):
            return True
        known: dict[str, object] = getattr(self.inputs, kind + "s")
        return name in known

    def _rebuild(self, dirty: Iterable[FragmentId]) -> set[Key]:
        changed: set[Key] = set()
        dirty = set(dirty)
        if any(kind == "network" for kind, _ in dirty):
            dirty.add(SHARED)
        for fragment in dirty:
            exists = self._exists(fragment)
            built = BUILDERS[fragment[0]](self.inputs, fragment[1]) if exists else Built(())
            objects, notes = built.objects, built.notes
            self._sends.put(fragment, built.sends)
            self._asks.put(fragment, built.asks)
            (self._meeting.add if built.meets else self._meeting.discard)(fragment)
            if fragment[0] == "block":
                self.targets.put(fragment[1], built.target, built.answers)
            old = self._fragments.pop(fragment, ())
            self._notes.pop(fragment, None)
            if exists:
                self._fragments[fragment] = objects
            if notes:
                self._notes[fragment] = notes
            if old == objects:
                continue
            if fragment[0] == "block" and exists:
                self.moved.append(self.inputs.blocks[fragment[1]].spec.node)
            for gone in old:
                self._wants[gone.key].pop(fragment, None)
            for one in objects:
                self._wants.setdefault(one.key, {})[fragment] = one
            changed |= {o.key for o in old} | {o.key for o in objects}
        return {key for key in changed if self._settle(key)}

    def sends(self, network: str) -> frozenset[Way]:
        """The ways by which this node sends peers."""
        return self._sends.of(network)

    def asks(self, network: str) -> frozenset[Way]:
        """The ways by which it would, once it has told so and they are accepted."""
        return self._asks.of(network)

    def _settle(self, key: Key) -> bool:
        """Bring ``desired`` and ``conflicts`` up to date for one key; whether anything changed."""
        before = (self.desired.pop(key, None), self.conflicts.pop(key, None))
        wants = self._wants.get(key)
        if not wants:
            self._wants.pop(key, None)
            return before != (None, None)
        values = iter(wants.values())
        first = next(values)
        chosen = first if all(value == first for value in values) else precedence.first(wants, self.inputs)
        if chosen is not None:
            self.desired[key] = chosen
            return before != (chosen, None)
        self.conflicts[key] = tuple(sorted(wants))
        return before != (None, self.conflicts[key])

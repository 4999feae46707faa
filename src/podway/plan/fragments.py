"""The fragments of the plan: what one input object wants of the kernel, by the inputs that it declares.

``BUILDERS`` has one function for each kind of input; a new kind of object that the plan should hold begins
here. ``planner`` keeps them up to date.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from podway.model.dropin import Piece
from podway.model.objects import AnyObject, family_of
from podway.model.resources import (
    Bgp,
    Block,
    Endpoint,
    ForeignBlock,
    Network,
    Node,
    NodeFacts,
    Paths,
)
from podway.plan import (
    attach,
    base,
    bgp,
    detect,
    doubts,
    dropin,
    flannel,
    mtu,
    narrow,
    nat,
    passage,
    transport,
)
from podway.plan.attach import bridge
from podway.plan.mtu import Size
from podway.plan.notes import Note
from podway.plan.path import Chosen, PathKey, Target, unasked
from podway.plan.targets import inside, key_of, target
from podway.plan.way import Held, Way, choose, of_block

FragmentId = tuple[str, str]  # ("block", "10.244.1.0/24")


class Built(NamedTuple):
    """What one fragment wants, what it has to say, and (network, way) that it sends a peer by, and that it
    would rather, what has to be proved, where peers that prove it expect an answer, and whether the better
    way waits for a handshake."""

    objects: tuple[AnyObject, ...]
    notes: tuple[Note, ...] = ()
    sends: tuple[str, Way] | None = None
    asks: tuple[str, Way] | None = None
    target: tuple[PathKey, Target] | None = None
    answers: str = ""
    meets: bool = False


FACTS: FragmentId = ("facts", "")
POOLS: FragmentId = ("pools", "")
SHARED: FragmentId = ("shared", "")


class Inputs(msgspec.Struct, kw_only=True):
    """Everything the fragments look at, by kind and name."""

    facts: NodeFacts
    networks: dict[str, Network] = {}
    nodes: dict[str, Node] = {}
    blocks: dict[str, Block] = {}
    foreigns: dict[str, ForeignBlock] = {}
    endpoints: dict[str, Endpoint] = {}
    pieces: dict[str, Piece] = {}
    lodged: Counter[str] = msgspec.field(
        default_factory=Counter
    )  # block → addresses of this node's pods in it
    bgp: Bgp = Bgp()
    learned: frozenset[str] = frozenset()  # prefixes that BIRD has brought into the kernel
    held: dict[str, Held] = {}  # network → ways to receive and send; a fold over the nodes
    sizes: dict[str, Size] = {}  # network → MTU of its pods here; a fold over the nodes
    holes: narrow.Holes = {}  # what probes found
    met: frozenset[transport.Met | None] = frozenset({None})  # who knows this node; None: needless
    paths: dict[PathKey, Chosen] = {}  # what was chosen so far

    @property
    def own(self) -> Node | None:
        """This node, as it is registered."""
        return self.nodes.get(self.facts.name)

    def own_paths(self, network: str) -> Paths | None:
        """What this node has told of its ways."""
        return self.own.paths.get(network) if self.own is not None else None


def _network(inputs: Inputs, name: str) -> Built:
    network = inputs.networks[name]
    told = inputs.own_paths(name)
    ends, notes = transport.ends(network, inputs.held[name].ways, told, inputs.own, inputs.facts)
    refused, small = bridge.refusal(network, inputs.facts), mtu.too_small(network, inputs.facts)
    notes = (*notes, *(note for note in (refused, small) if note is not None))
    if network.spec.transport != "none":
        notes = (*notes, *detect.note(inputs.facts))
    passes = passage.network(network, inputs.facts)
    return Built((*attach.network(network, inputs.facts, inputs.sizes[name].links), *ends, *passes), notes)


def _pools(inputs: Inputs, _: str) -> Built:
    """A fold: the kernel's set holds no prefix within another, as an overlapping network's would be."""
    pools = {pool.cidr for network in inputs.networks.values() for pool in network.spec.pools}
    return Built(nat.cluster(doubts.outermost(pools)))


def _shared(inputs: Inputs, _: str) -> Built:
    """A fold: there is one device for all networks that go by it."""
    ends = [
        (inputs.networks[name], way, inputs.own_paths(name))
        for name, held in inputs.held.items()
        for way in held.ways
    ]
    return Built(transport.shared(ends, inputs.own, inputs.facts))


def _node(inputs: Inputs, name: str) -> Built:
    addresses = tuple(a.partition("/")[0] for a in inputs.nodes[name].spec.addresses)
    return Built(tuple(nat.nodes(addresses)))


def _block(inputs: Inputs, cidr: str) -> Built:
    block = inputs.blocks[cidr]
    network = inputs.networks.get(block.spec.network)
    if network is None:
        note = Note(f"block {cidr}", f"its network {block.spec.network} is not known", "apply the Network")
        return Built((), (note,))
    held = inputs.held[network.name]
    node = inputs.nodes.get(block.spec.node)
    if block.spec.node == inputs.facts.name:
        stands = attach.own_block(block, network, inputs.facts, inputs.sizes[network.name].links)
        ends = transport.own_block(block, held.ways, node)
        return Built((*stands, *ends), answers=inside(block))
    if inputs.lodged[cidr]:
        return Built(
            attach.own_block(block, network, inputs.facts, inputs.sizes[network.name].links),
            _lost(inputs, block),
        )
    if node is None:
        return Built((), (Note(f"block {cidr}", f"its node {block.spec.node} is not registered"),))
    built = _peer_block(inputs, block, node, held)
    known = transport.known(block, held.ways, node, inputs.own)
    return built._replace(objects=(*known, *built.objects), meets=_meets(inputs, block, node, built))


def _meets(inputs: Inputs, block: Block, node: Node, built: Built) -> bool:
    """Whether only a handshake is missing for a better way than the one that is sent."""
    if built.sends is None or built.asks is None or built.sends == built.asks:
        return False
    return transport.meeting(block, built.asks[1], node) not in inputs.met


def _lost(inputs: Inputs, block: Block) -> tuple[Note]:
    """Pods of this node live in a block that the store says is another's: they keep what they have here."""
    why = f"the store says it is node {block.spec.node}'s, but pods of {inputs.facts.name} live in it"
    fix = f"delete these {inputs.lodged[block.cidr]} pods, or the block there; no other node reaches them"
    return (Note(f"block {block.cidr}", why, fix),)


def _peer_block(inputs: Inputs, block: Block, node: Node, held: Held) -> Built:
    """By the best way that may be sent now and that leads to the peer."""
    name = block.spec.network
    own, network = inputs.own_paths(name), inputs.networks[name]
    first = of_block(network.spec, block.cidr)
    wished = (*held.wished[:-1], first)
    able = [way for way in held.ways if way.carries(family_of(block.cidr))]
    now, asked = choose(wished, own, node.paths.get(name), able)
    if own is not None and own.sizes is not None:
        # a way that is too narrow for what pods still send comes last
        largest = own.sizes.sends
        now = tuple(sorted(now, key=lambda way: mtu.of_way(network, way, inputs.facts) < largest))
    # one by which the peer doesn't know this node yet, as far as a handshake shows, comes last too
    now = tuple(sorted(now, key=lambda way: transport.meeting(block, way, node) not in inputs.met))
    asks = (name, asked) if asked is not None else None
    proof = target(wished, now, block, node, inputs.facts)
    chosen = inputs.paths.get(key_of(block)) or (unasked(proof) if proof else None)
    proving = (key_of(block), proof) if proof else None
    said: list[Note] = []
    for way in now:
        if way.transport == "bgp":
            if block.cidr in inputs.learned:
                return Built((), tuple(said), (name, way), asks, proving)
            said.append(bgp.unlearned(block, node))
            continue
        objects, notes = transport.peer_block(block, way, node, inputs.own, inputs.facts, chosen)
        said += notes if way == first else ()
        if objects:
            objects = narrow.narrowed(objects, block, network, way, node, inputs.facts, inputs.holes)
            return Built(objects, tuple(said), (name, way), asks, proving)
    if not now and asked is None:
        theirs = ", ".join(node.paths[name].accepts) or "nothing"
        said.append(Note(f"peer {node.name} block {block.cidr}", f"it accepts {theirs} yet", "see its agent"))
    return Built((), tuple(said), None, asks, proving)


def _endpoint(inputs: Inputs, name: str) -> Built:
    endpoint = inputs.endpoints[name]
    network = inputs.networks.get(endpoint.network)
    if network is None:
        note = Note(f"pod {name}", f"its network {endpoint.network} is not known", "apply the Network")
        return Built((), (note,))
    return Built(attach.endpoint(endpoint, network, inputs.facts, inputs.sizes[network.name].links))


def _piece(inputs: Inputs, name: str) -> Built:
    piece = inputs.pieces[name]
    return Built((*dropin.on_node(piece), *passage.piece(piece, inputs.facts)))


def _foreign(inputs: Inputs, cidr: str) -> Built:
    block = inputs.foreigns[cidr]
    network = inputs.networks.get(block.network)
    if network is None:
        return Built(())
    return Built(*flannel.foreign_block(block, network, inputs.own, inputs.facts))


def _facts(inputs: Inputs, _: str) -> Built:
    own = tuple(a.partition("/")[0] for uplink in inputs.facts.uplinks for a in uplink.addresses)
    return Built((*base.node(inputs.facts), *nat.nodes(own)))


BUILDERS: dict[str, Callable[[Inputs, str], Built]] = {
    "facts": _facts,
    "pools": _pools,
    "shared": _shared,
    "network": _network,
    "node": _node,
    "block": _block,
    "foreign": _foreign,
    "endpoint": _endpoint,
    "piece": _piece,
}

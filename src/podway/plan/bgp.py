"""What this node's BIRD is told: a fold over nodes, blocks and everything declared of BGP. Pure.

A network whose way is ``bgp`` has no routes of Podway's own: each node announces its blocks, and BIRD
programs what it learns. Inside the cluster every node speaks with every other (a full mesh), or all with
a few that reflect (RFC 4456); a BGPPeer is spoken with besides.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from podway.model import selector
from podway.model.bgp import Bfd, PrefixMatch, Rule, Session, Speaker, symbol
from podway.model.bgp_specs import (
    BGPAdvertisementSpec,
    BGPConfigurationSpec,
    BGPPeerSpec,
    BGPTopologySpec,
    Failover,
    RuleSpec,
    Shape,
)
from podway.model.objects import family_of
from podway.model.resources import Bgp, Block, Node, NodeFacts
from podway.plan import borrowed
from podway.plan.doubts import span, within
from podway.plan.notes import Note

MOST_PREFIXES = 10_000  # of a BGPPeer that doesn't say; beyond it somebody leaks the Internet
#: how a node watches another. Both: BIRD keeps a lost one's routes, and agents find out whether it is dead
NODES_BFD: dict[Failover, Bfd] = {"fast": "on", "hitless": "", "both": "graceful"}
FAR = 64  # hops at most to a node that is on no segment of this one


class Cluster(NamedTuple):
    """What the fold looks at. ``networks`` are those that are carried by BGP: name → prefixes."""

    facts: NodeFacts
    nodes: Mapping[str, Node]
    blocks: Iterable[Block]
    networks: Mapping[str, tuple[str, ...]]
    bgp: Bgp


class Handover(NamedTuple):
    """A change from one shape of sessions to another: names of those with nodes that stay after it, and of
    those that must be up before it."""

    generation: int
    staying: frozenset[str]
    needed: frozenset[str]


class Told(NamedTuple):
    """The configuration, None where nothing is carried by BGP, and what can't be had, and why."""

    speaker: Speaker | None
    notes: tuple[Note, ...] = ()
    handover: Handover | None = None


def speaker(cluster: Cluster) -> Told:
    """This node's whole configuration."""
    own = cluster.nodes.get(cluster.facts.name)
    if not cluster.networks or own is None:
        return Told(None)
    four = own.address(4)
    if not four and not own.address(6):
        note = Note(f"node {own.name}", "it has no address to speak BGP from", "give it one: spec.addresses")
        return Told(None, (note,))
    configuration = cluster.bgp.configuration
    shapes = topology(cluster)
    notes = list(_doubts(cluster))
    sessions = _inside(cluster, own, (shapes.old, shapes.new))
    handover = None
    if shapes.old != shapes.new:
        staying = _inside(cluster, own, (shapes.new,))
        needed = [one for one in staying if one.description.removeprefix("node ") not in shapes.without]
        handover = Handover(shapes.generation, _names(staying), _names(needed))
    sessions += _outside(cluster, own, tuple(sessions), notes)
    every = list(cluster.blocks)
    blocks = [b for b in every if b.spec.node == own.name and b.spec.network in cluster.networks]
    pools = tuple(sorted(cidr for pools in cluster.networks.values() for cidr in pools))
    told = Speaker(
        router_id=four or _number_of(own),
        port=configuration.port,
        strict=configuration.listen == "node",
        uplinks=tuple(sorted(uplink.name for uplink in cluster.facts.uplinks)),
        own=tuple(sorted(block.cidr for block in blocks)),
        lent=borrowed.lent(own.name, every),
        pools=pools,
        outside=_pieces(pools, every) if any(not session.node for session in sessions) else (),
        advertised=_advertised(cluster.bgp.advertisements, own),
        reflector=own.name in {*shapes.old.reflectors, *shapes.new.reflectors},
        draining=own.spec.drain,
        sessions=tuple(sorted(sessions, key=lambda session: session.name)),
    )
    return Told(told, tuple(notes), handover)


def _pieces(pools: Iterable[str], every: Sequence[Block]) -> tuple[PrefixMatch, ...]:
    """Of the pools nothing smaller than blocks are, for it would go before the block of a node; nor any
    single address but those that nodes have borrowed."""
    found = []
    for pool in pools:
        inside = [block for block in every if within(span(block.cidr), span(pool))]
        network = ipaddress.ip_network(pool)
        whole = network.max_prefixlen
        lengths = [ipaddress.ip_network(block.cidr).prefixlen for block in inside if not block.borrowed]
        found.append(PrefixMatch(pool, network.prefixlen, max(lengths, default=whole)))
        found += [PrefixMatch(block.cidr, whole, whole) for block in inside if block.borrowed]
    return tuple(found)


def _names(sessions: Iterable[Session]) -> frozenset[str]:
    return frozenset(session.name for session in sessions)


def _number_of(node: Node) -> str:
    """A router ID for a node without IPv4: 32 bits of its IPv6 address, as an IPv4 address is written."""
    low = int(ipaddress.IPv6Address(node.address(6))) & 0xFFFFFFFF
    return str(ipaddress.IPv4Address(low or 1))


def unlearned(block: Block, node: Node) -> Note:
    """Why there is no way to a peer's block yet."""
    reason = "no BGP peer has told of it"
    return Note(f"peer {node.name} block {block.cidr}", reason, "podway bgp peers says which sessions are up")


# inside the cluster -------------------------------------------------------------------------------------


LEAVE_AT = 0.8  # of the mesh's limit: below it reflectors are left again, so that nothing goes to and fro
NOBODY: frozenset[str] = frozenset()


def shape(
    nodes: Mapping[str, Node],
    configuration: BGPConfigurationSpec,
    standing: Shape | None = None,
    gone: frozenset[str] = NOBODY,
    unfit: frozenset[str] = NOBODY,
) -> Shape:
    """Who of the nodes should speak with whom, as declared, or chosen where that is left open.

    The same from the same arguments. A selector that names no node leaves it open. Of reflectors that are
    ``standing`` those stay that may: not drained, not ``gone``. Others come first that differ in the label
    ``spread``, in the order of their names, and none that is ``unfit`` while there are enough that aren't."""
    wanted = configuration.reflectors
    if named := _named_reflectors(nodes, configuration):
        return Shape(reflectors=named)
    if configuration.mesh != "auto":
        return Shape(mesh=configuration.mesh == "on")
    before = standing.reflectors if standing is not None else ()
    limit = configuration.mesh_limit * (LEAVE_AT if before else 1)
    if len(nodes) <= limit:
        return Shape(mesh=True)
    willing = sorted(name for name, node in nodes.items() if not node.spec.drain)
    chosen = [name for name in before if name in willing and name not in gone][: wanted.count]
    chosen = _filled(chosen, [n for n in willing if n not in unfit and n not in gone], nodes, configuration)
    if len(chosen) < min(wanted.count, len(before)):  # nobody better is there
        chosen = _filled(chosen, [name for name in before if name in nodes], nodes, configuration)
    return Shape(reflectors=tuple(sorted(chosen)))


def _named_reflectors(nodes: Mapping[str, Node], configuration: BGPConfigurationSpec) -> tuple[str, ...]:
    if not configuration.reflectors.selector:
        return ()
    matches = selector.parse(configuration.reflectors.selector)
    return tuple(sorted(name for name, node in nodes.items() if matches(node.spec.labels)))


def _doubts(cluster: Cluster) -> Iterator[Note]:
    """What is declared and can't be meant: a mesh that is too large, selectors that name nobody."""
    configuration = cluster.bgp.configuration
    wanted = configuration.reflectors.selector
    if wanted and not _named_reflectors(cluster.nodes, configuration):
        what = f"no node has {wanted}, which reflectors are to have: it is as if nothing was said of them"
        yield Note("BGPConfiguration", what, "label some, or mend spec.reflectors.selector")
    if configuration.mesh == "on" and len(cluster.nodes) > configuration.mesh_limit:
        what = f"each of {len(cluster.nodes)} nodes has a session with every other, more than meshLimit"
        yield Note("BGPConfiguration", what, "mesh: auto takes reflectors then; or a larger meshLimit")
    for name, spec in sorted(cluster.bgp.advertisements.items()):
        subject = f"BGPAdvertisement {name}"
        matches = selector.parse(spec.node_selector)
        if not any(matches(node.spec.labels) for node in cluster.nodes.values()):
            yield Note(subject, f"no node has {spec.node_selector}", "label one, or mend the selector")
        if missing := sorted(set(spec.nodes) - cluster.nodes.keys()):
            yield Note(subject, f"there is no node {', '.join(missing)}", "mend spec.nodes")


def _filled(
    chosen: list[str], willing: Sequence[str], nodes: Mapping[str, Node], configuration: BGPConfigurationSpec
) -> list[str]:
    """``chosen`` and as many more as are wanted: those first that are in a place of their own."""
    wanted = configuration.reflectors

    def place(name: str) -> str:
        return nodes[name].spec.labels.get(wanted.spread, "") if wanted.spread else name

    found, places = list(chosen), {place(name) for name in chosen}
    for name in willing:
        if place(name) not in places and len(found) < wanted.count:
            found.append(name)
            places.add(place(name))
    return found + [name for name in willing if name not in found][: wanted.count - len(found)]


def topology(cluster: Cluster) -> BGPTopologySpec:
    """The chosen one; until there is one, what every node would choose by itself."""
    if cluster.bgp.topology is not None:
        return cluster.bgp.topology
    now = shape(cluster.nodes, cluster.bgp.configuration)
    return BGPTopologySpec(generation=0, old=now, new=now)


def _inside(cluster: Cluster, own: Node, shapes: Iterable[Shape]) -> list[Session]:
    """Sessions with other nodes: those of all ``shapes``."""
    meshed = any(shape.mesh for shape in shapes)
    reflecting = {name for shape in shapes for name in shape.reflectors}
    sessions: list[Session] = []
    for name, node in cluster.nodes.items():
        if name == own.name or not (meshed or {name, own.name} & reflecting):
            continue
        found = (_with_node(cluster, own, node, family) for family in (4, 6))
        sessions += [session for session in found if session is not None]
    return sessions


def _with_node(cluster: Cluster, own: Node, node: Node, family: int) -> Session | None:
    configuration = cluster.bgp.configuration
    local, remote = own.address(family), node.address(family)
    if not local or not remote or local == remote:
        return None
    return Session(
        name=symbol(f"n{family}", node.name),
        description=f"node {node.name}",
        local=local,
        neighbor=remote,
        port=configuration.port,
        remote_as=configuration.as_number,
        local_as=configuration.as_number,
        # one side calls, so that two calls never meet (and a mesh is up in half the time)
        passive=own.name > node.name,
        multihop=0 if _on_link(remote, cluster.facts) else FAR,
        hold=configuration.hold,
        keepalive=configuration.keepalive,
        bfd=NODES_BFD[configuration.failover],
        graceful="aware" if configuration.failover == "fast" else "on",
        restart_time=configuration.restart_time,
        ipv4=family == 4,
        ipv6=family == 6,
        node=True,
    )


def _on_link(address: str, facts: NodeFacts) -> bool:
    target = ipaddress.ip_address(address)
    return any(target in ipaddress.ip_interface(own).network for up in facts.uplinks for own in up.addresses)


# with others --------------------------------------------------------------------------------------------


def _outside(cluster: Cluster, own: Node, inside: Sequence[Session], notes: list[Note]) -> list[Session]:
    sessions: list[Session] = []
    for name, peer in sorted(cluster.bgp.peers.items()):
        subject = f"BGPPeer {name}"
        matches = selector.parse(peer.node_selector)
        if not matches(own.spec.labels):
            if not any(matches(node.spec.labels) for node in cluster.nodes.values()):
                fix = "label one, or mend the selector"
                notes.append(Note(subject, f"no node has {peer.node_selector}", fix))
            continue
        wanted = peer.peer_address or peer.peer_range
        if wanted in {own.address(4), own.address(6)}:
            continue  # what all nodes are told of one of them
        clash = _clash(wanted, inside, sessions)
        if clash is not None:
            notes.append(Note(subject, *clash))
        elif (session := _with_peer(cluster, own, name, peer, notes)) is not None:
            sessions.append(session)
    return sessions


def _clash(wanted: str, inside: Sequence[Session], others: Sequence[Session]) -> tuple[str, str] | None:
    """With whom a call from an address, or from a prefix, would be mistaken: what of it, and what to do."""
    network = ipaddress.ip_network(wanted)
    for one in (*inside, *others):
        other = ipaddress.ip_network(one.neighbor)
        if network.version != other.version or not network.overlaps(other):
            continue
        if one.node:
            how = "is" if network == other else "holds"
            what = f"{wanted} {how} {one.description}, which is spoken with anyway"
            return what, "remove it, or set mesh: off in the BGPConfiguration"
        if network == other:
            return f"{one.description} is the same peer", "remove one of them"
        return f"{wanted} and {one.neighbor} of {one.description} overlap", "make them apart, or remove one"
    return None


def _with_peer(
    cluster: Cluster, own: Node, name: str, peer: BGPPeerSpec, notes: list[Note]
) -> Session | None:
    configuration = cluster.bgp.configuration
    family = family_of(peer.peer_address or peer.peer_range)
    local = own.address(family)
    if not local:
        what = f"node {own.name} has no IPv{family} address to speak from"
        notes.append(Note(f"BGPPeer {name}", what, "give the node one"))
        return None
    fast = configuration.failover != "hitless"
    if configuration.failover == "both":
        notes += _unavailable(name, peer)
    hold = peer.hold or configuration.hold
    keepalive = peer.keepalive
    if keepalive > hold // 2:  # its own hold was checked with it; that of the nodes may be another
        taken = max(1, hold // 3)
        what = f"a keepalive of {keepalive} s does not fit the nodes' hold of {hold}: {taken} is taken"
        notes.append(Note(f"BGPPeer {name}", what, "say hold in it too, or a shorter keepalive"))
        keepalive = 0
    imports, exports = _rules(cluster.bgp, name, peer, notes)
    return Session(
        name=symbol("p", name),
        description=f"BGPPeer {name}",
        local=local,
        neighbor=peer.peer_address or peer.peer_range,
        dynamic=bool(peer.peer_range),
        port=peer.port,
        remote_as=peer.as_number,
        local_as=peer.local_as or configuration.as_number,
        passive=peer.passive or bool(peer.peer_range),
        multihop=peer.multihop,
        password=peer.password,
        hold=hold,
        keepalive=keepalive or max(1, hold // 3),
        # nobody could ask who called from a range whether it lives, and so BFD's word is taken
        bfd="" if not peer.bfd else "on" if fast or peer.peer_range else "graceful",
        ttl_security=peer.ttl_security,
        graceful="on" if peer.graceful_restart else "aware",
        restart_time=configuration.restart_time,
        next_hop_self=peer.next_hop_self,
        extended_next_hop=peer.extended_next_hop,
        max_prefixes=peer.max_prefixes or MOST_PREFIXES,
        ipv4=family == 4 or peer.extended_next_hop,
        ipv6=family == 6,
        imports=imports,
        exports=exports,
    )


def _unavailable(name: str, peer: BGPPeerSpec) -> Iterator[Note]:
    """Why a peer does not have both, a fast failover and restarts that lose nothing."""
    subject = f"BGPPeer {name}"
    if not peer.bfd:
        what = "failover: both is not had with it: without BFD its death is noticed after hold"
        yield Note(subject, what, "set bfd: true in it and on the peer, or failover: hitless")
    elif peer.software != "frr":
        what = "failover: both is not had with it: only FRR is known to keep routes of a BIRD that BFD lost"
        yield Note(subject, what, "set software: frr if it is one; or bfd: false, or failover: fast")


def _rules(
    bgp: Bgp, name: str, peer: BGPPeerSpec, notes: list[Note]
) -> tuple[tuple[Rule, ...], tuple[Rule, ...]]:
    """For what the peer tells, and for what it is told."""
    imports: list[Rule] = []
    exports: list[Rule] = []
    for wanted in peer.filters:
        found = bgp.filters.get(wanted)
        if found is None:
            # what it would have rejected is not let through in the meantime
            fix = "apply it: nothing passes until then"
            notes.append(Note(f"BGPPeer {name}", f"there is no BGPFilter {wanted}", fix))
            return (Rule(accept=False),), (Rule(accept=False),)
        imports += map(_rule, found.imports)
        exports += map(_rule, found.exports)
    return tuple(imports), tuple(exports)


def _rule(spec: RuleSpec) -> Rule:
    prefixes = []
    for one in spec.prefixes:
        length = ipaddress.ip_network(one.cidr).prefixlen
        low = length if one.min is None else one.min
        prefixes.append(PrefixMatch(one.cidr, low, max(low, length) if one.max is None else one.max))
    return Rule(
        accept=spec.action == "accept",
        prefixes=tuple(prefixes),
        communities=spec.communities,
        as_path_has=spec.as_path,
        local_pref=spec.set_local_preference,
        prepend=spec.prepend,
        add=spec.add_communities,
    )


def _advertised(advertisements: Mapping[str, BGPAdvertisementSpec], own: Node) -> tuple[str, ...]:
    found: set[str] = set()
    for spec in advertisements.values():
        serves = spec.external_traffic_policy == "Cluster" or own.name in spec.nodes
        if serves and selector.parse(spec.node_selector)(own.spec.labels):
            found.update(str(ipaddress.ip_network(prefix)) for prefix in spec.prefixes)
    return tuple(sorted(found))

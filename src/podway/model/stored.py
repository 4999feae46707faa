"""What a node sees of the records of a store: values, the whole as a Snapshot, and what can't be read. Pure.

It is read leniently: a field of a later version is no reason to stop, and whatever else is wrong with one
record is said of that one.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from podway.model.bgp_specs import BGP_KINDS, BGPConfigurationSpec, BgpSpec
from podway.model.bgp_validation import bgp_problems
from podway.model.documents import SPECS, Resource, StoredObject, make, resolve
from podway.model.errors import InvalidInput
from podway.model.lending import BorrowSpec, block_status
from podway.model.problems import Problem
from podway.model.resources import (
    Bgp,
    BgpResource,
    Block,
    Identity,
    Network,
    NetworkSpec,
    Node,
    NodeSpec,
    Paths,
    Snapshot,
    Unreadable,
)
from podway.model.validation import canonical, network_problems, node_problems


class NodeStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What a node's agent says of it: ``addresses`` and ``macs`` of its uplinks, ``paths`` by network.

    ``sessions``: the generation of the BGPTopology whose new sessions are all it needs."""

    addresses: tuple[str, ...] = ()
    macs: tuple[str, ...] = ()
    identity: Identity = Identity()
    paths: dict[str, Paths] = {}
    sessions: int = 0


EMPTY = Snapshot()


def resource(record: StoredObject) -> Resource:
    """The resource of a record. Raises InvalidInput when this version can't read it or it can't be right."""
    where = f"stored {record.kind} {record.name}"
    try:
        spec = msgspec.json.decode(record.spec, type=SPECS[record.kind])
    except (msgspec.MsgspecError, KeyError) as error:
        raise InvalidInput(f"{where} can't be read: {error}") from error
    for problem in _stored_problems(spec, record.name):
        raise InvalidInput(f"{where} is malformed: {problem.path}: {problem.what}", fix=problem.fix)
    return make(record.kind, record.name, canonical(spec))


def _stored_problems(spec: msgspec.Struct, name: str) -> list[Problem]:
    """Whatever writes to a store, an agent must not stumble over it."""
    if isinstance(spec, NetworkSpec):
        return network_problems(spec)
    if isinstance(spec, NodeSpec):
        return node_problems(spec)
    if isinstance(spec, BgpSpec):
        return bgp_problems(spec, name)
    try:
        borrowed = isinstance(spec, BorrowSpec)
        prefix = str(ipaddress.ip_address(name) if borrowed else ipaddress.ip_network(name))
    except ValueError as error:
        return [Problem("metadata.name", str(error))]
    if prefix != name:
        # another spelling would be another key, and so a second owner of the same addresses
        return [Problem("metadata.name", f"{name!r} is not how {prefix} is written")]
    return []


def snapshot(records: Iterable[StoredObject], last: Snapshot = EMPTY) -> tuple[Snapshot, list[Unreadable]]:
    """What a node sees of the stored objects, and those that can't be read.

    Of one that can't be read its ``last`` good value stays in force; what that leaves in doubt is for
    ``plan.doubts`` to say. A node that declares no addresses has those that its agent found."""
    found: dict[str, dict[str, Any]] = {kind: {} for kind in SPECS}
    unreadable: list[Unreadable] = []
    before: dict[str, Mapping[str, Resource]] = {
        "Network": last.networks,
        "Node": last.nodes,
        "Block": last.blocks,
        "Borrow": last.borrows,
        **_declared(last.bgp),
    }
    for record in records:
        try:
            found[record.kind][record.name] = _seen(record.kind, record.name, record.spec, record.status)
        except InvalidInput as error:
            unreadable.append(Unreadable(record.kind, record.name, str(error)))
            known = before.get(record.kind, {}).get(record.name)
            if known is not None:
                found[record.kind][record.name] = known
    new = Snapshot(
        networks=found["Network"],
        nodes=found["Node"],
        blocks=found["Block"],
        borrows=found["Borrow"],
        bgp=_bgp(found),
        unreadable=tuple(unreadable),
        synced=True,
    )
    return new, unreadable


def _declared(bgp: Bgp) -> dict[str, dict[str, BgpResource]]:
    """Kind → name → resource, the reverse of ``_bgp``."""
    specs: dict[str, Mapping[str, BgpSpec]] = {
        "BGPConfiguration": {"default": bgp.configuration},
        "BGPPeer": bgp.peers,
        "BGPFilter": bgp.filters,
        "BGPAdvertisement": bgp.advertisements,
        "BGPTopology": {} if bgp.topology is None else {"default": bgp.topology},
    }
    return {
        kind: {name: BgpResource(kind=kind, name=name, spec=spec) for name, spec in named.items()}
        for kind, named in specs.items()
    }


def _bgp(found: Mapping[str, Mapping[str, BgpResource]]) -> Bgp:
    specs: dict[str, dict[str, Any]] = {
        kind: {name: one.spec for name, one in found[kind].items()} for kind in BGP_KINDS
    }
    return Bgp(
        configuration=specs["BGPConfiguration"].get("default", BGPConfigurationSpec()),
        peers=specs["BGPPeer"],
        filters=specs["BGPFilter"],
        advertisements=specs["BGPAdvertisement"],
        topology=specs["BGPTopology"].get("default"),
    )


class _Stored(NamedTuple):
    kind: str
    name: str
    spec: bytes
    status: bytes


@lru_cache(maxsize=32768)
def _seen(kind: str, name: str, spec: bytes, status: bytes) -> Resource:
    """What a node sees of one object; of a large cluster all but a few are as they were at the last look."""
    value = resource(_Stored(kind, name, spec, status))
    if isinstance(value, Network):
        return resolve(value)
    if isinstance(value, Block):
        return msgspec.structs.replace(value, offers=block_status(status).offers)
    return _with_status(value, status) if isinstance(value, Node) else value


def node_status(status: bytes) -> NodeStatus:
    """What a stored status says; nothing where this version can't read it."""
    try:
        return msgspec.json.decode(status, type=NodeStatus)
    except msgspec.MsgspecError:
        return NodeStatus()


def _with_status(node: Node, status: bytes) -> Node:
    found = node_status(status)
    addresses = node.spec.addresses or tuple(filter(_is_address, found.addresses))
    spec = msgspec.structs.replace(node.spec, addresses=addresses)
    declared = bool(node.spec.addresses)
    return Node(
        name=node.name,
        spec=spec,
        declared=declared,
        paths=found.paths,
        macs=found.macs,
        sessions=found.sessions,
    )


def _is_address(text: str) -> bool:
    try:
        return bool(ipaddress.ip_interface(text))
    except ValueError:
        return False

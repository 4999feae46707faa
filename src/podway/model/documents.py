"""Documents (apiVersion, kind, metadata, spec) ↔ values, and what must hold between them. Pure.

Input is strict: an unknown key, a wrong type, an illegal name is a Problem that says where. What is
stored is read leniently: a field of a later version is no reason to stop.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import msgspec

from podway.model.errors import InvalidInput
from podway.model.resources import (
    API_VERSION,
    PRESETS,
    Block,
    BlockSpec,
    Network,
    NetworkSpec,
    Node,
    NodeSpec,
    Snapshot,
)

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")  # RFC 1123 label

SPECS: dict[str, type[msgspec.Struct]] = {"Network": NetworkSpec, "Node": NodeSpec, "Block": BlockSpec}
APPLICABLE = ("Network", "Node")  # blocks are claimed by nodes, not declared
Resource = Network | Node | Block


class Problem(msgspec.Struct, frozen=True):
    """What is wrong at ``path`` ("spec.pools[0].cidr") of a document, and what to do."""

    path: str
    what: str
    fix: str = ""


class InvalidDocument(InvalidInput):
    """One or more problems of one document."""

    def __init__(self, problems: list[Problem], where: str = "") -> None:
        first = problems[0]
        place = f"{where}: {first.path}" if where else first.path
        super().__init__(first.what, place, first.fix)
        self.problems = problems


def suggest(word: str, known: Iterable[str]) -> str:
    """ "did you mean X?", or the list of what is known."""
    names = list(known)
    close = difflib.get_close_matches(word, names, n=1)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(names)}"


def decode(document: Any) -> Resource:
    """The resource of a decoded document. Raises InvalidDocument with all its problems."""
    problems: list[Problem] = []
    if not isinstance(document, dict):
        raise InvalidDocument([Problem("", f"a document is a mapping, this is {type(document).__name__}")])
    kind = document.get("kind")
    if document.get("apiVersion") != API_VERSION:
        found = document.get("apiVersion")
        problems.append(Problem("apiVersion", f"{found!r} is not known", f"write {API_VERSION}"))
    if kind not in APPLICABLE:
        problems.append(Problem("kind", f"{kind!r} is no kind", suggest(str(kind), APPLICABLE)))
    for key in document:
        if key not in ("apiVersion", "kind", "metadata", "spec", "status"):
            fix = suggest(key, ("apiVersion", "kind", "metadata", "spec"))
            problems.append(Problem(key, "unknown key", fix))
    name = _name(document.get("metadata"), problems)
    if kind not in SPECS:
        raise InvalidDocument(problems)
    spec = document.get("spec", {})
    _unknown_keys(spec, SPECS[kind], "spec", problems)
    try:
        decoded = msgspec.convert(spec, SPECS[kind])
    except msgspec.ValidationError as error:
        problems.append(_of_msgspec(error))
    else:
        if isinstance(decoded, NetworkSpec):
            from podway.model.validation import network_problems

            problems += network_problems(decoded)
        elif isinstance(decoded, NodeSpec):
            from podway.model.validation import node_problems

            problems += node_problems(decoded)
    if problems:
        raise InvalidDocument(problems)
    return make(kind, name, decoded)


def make(kind: str, name: str, spec: msgspec.Struct) -> Resource:
    """The value of a kind's spec."""
    if isinstance(spec, NetworkSpec):
        return Network(name=name, spec=spec)
    if isinstance(spec, NodeSpec):
        return Node(name=name, spec=spec)
    if isinstance(spec, BlockSpec):
        return Block(cidr=name, spec=spec)
    raise InvalidInput(f"{kind} is no kind", name)


def _name(metadata: Any, problems: list[Problem]) -> str:
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        problems.append(Problem("metadata.name", "is missing", "metadata: {name: NAME}"))
        return ""
    for key in metadata:
        if key != "name":
            problems.append(Problem(f"metadata.{key}", "unknown key", suggest(key, ("name",))))
    name: str = metadata["name"]
    if not NAME.fullmatch(name):
        fix = "lower case letters, digits and - inside, at most 63 characters"
        problems.append(Problem("metadata.name", f"{name!r} is no legal name", fix))
    return name


def _of_msgspec(error: msgspec.ValidationError) -> Problem:
    what, _, path = str(error).partition(" - at `")
    return Problem("spec" + path.rstrip("`").removeprefix("$"), what)


def _unknown_keys(value: Any, kind: Any, path: str, problems: list[Problem]) -> None:
    """Walk a spec beside its type; msgspec alone would stop at the first and suggest nothing."""
    if isinstance(value, dict) and isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        fields = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
        for key, inner in value.items():
            if key not in fields:
                problems.append(Problem(f"{path}.{key}", "unknown key", suggest(str(key), fields)))
            else:
                _unknown_keys(inner, fields[key], f"{path}.{key}", problems)
    elif isinstance(value, list) and getattr(kind, "__origin__", None) is tuple:
        for number, inner in enumerate(value):
            _unknown_keys(inner, kind.__args__[0], f"{path}[{number}]", problems)


def resolve(network: Network) -> Network:
    """The network with its preset's attach and transport filled in."""
    if not network.spec.preset:
        return network
    attach, transport = PRESETS[network.spec.preset]
    spec = msgspec.structs.replace(network.spec, attach=attach, transport=transport)
    return Network(name=network.name, spec=spec)


def encode(resource: Resource, status: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The document of a resource."""
    name = resource.cidr if isinstance(resource, Block) else resource.name
    document: dict[str, Any] = {
        "apiVersion": API_VERSION,
        "kind": type(resource).__name__,
        "metadata": {"name": name},
        "spec": msgspec.to_builtins(resource.spec),
    }
    if status:
        document["status"] = dict(status)
    return document


def spec_json(resource: Resource) -> bytes:
    """What the store keeps of a resource."""
    return msgspec.json.encode(resource.spec)


class StoredObject(Protocol):
    """What a store's record has."""

    @property
    def kind(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def spec(self) -> bytes: ...
    @property
    def status(self) -> bytes: ...


class NodeStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What a node's agent says of it: ``addresses`` as found on its uplinks."""

    addresses: tuple[str, ...] = ()


def stored(record: StoredObject) -> Resource:
    """The resource of a record. Raises InvalidInput when this version can't read it."""
    try:
        spec = msgspec.json.decode(record.spec, type=SPECS[record.kind])
    except (msgspec.MsgspecError, KeyError) as error:
        raise InvalidInput(f"stored {record.kind} {record.name} can't be read: {error}") from error
    return make(record.kind, record.name, spec)


def snapshot(records: Iterable[StoredObject], synced: bool) -> tuple[Snapshot, list[str]]:
    """What a node sees of the stored objects, and the words for those that can't be read.

    A node that declares no addresses has those that its agent found."""
    networks: dict[str, Network] = {}
    nodes: dict[str, Node] = {}
    blocks: dict[str, Block] = {}
    unreadable: list[str] = []
    for record in records:
        try:
            value = stored(record)
        except InvalidInput as error:
            unreadable.append(str(error))
            continue
        if isinstance(value, Network):
            networks[value.name] = resolve(value)
        elif isinstance(value, Node):
            nodes[value.name] = _with_found_addresses(value, record.status)
        else:
            blocks[value.cidr] = value
    return Snapshot(networks=networks, nodes=nodes, blocks=blocks, synced=synced), unreadable


def _with_found_addresses(node: Node, status: bytes) -> Node:
    if node.spec.addresses:
        return node
    try:
        found = msgspec.json.decode(status, type=NodeStatus)
    except msgspec.MsgspecError:
        return node
    return Node(name=node.name, spec=msgspec.structs.replace(node.spec, addresses=found.addresses))

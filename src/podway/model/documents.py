"""Documents (apiVersion, kind, metadata, spec) ↔ values, and what must hold between them. Pure.

Input is strict: an unknown key, a wrong type, an illegal name is a Problem that says where. What is
stored is read leniently: see stored.py.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Any, Literal, Protocol, get_args, get_origin

import msgspec

from podway.model.bgp_specs import BGP_KINDS, BgpSpec
from podway.model.bgp_validation import bgp_problems
from podway.model.errors import InvalidInput
from podway.model.lending import Borrow, BorrowSpec
from podway.model.problems import Problem, suggest
from podway.model.resources import (
    API_VERSION,
    DIRECT_PRESETS,
    PRESETS,
    BgpResource,
    Block,
    BlockSpec,
    Network,
    NetworkSpec,
    Node,
    NodeSpec,
)
from podway.model.tunnels import IpipSpec
from podway.model.validation import canonical, network_problems, node_problems, preset_problems

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")  # RFC 1123 label

SPECS: dict[str, type[msgspec.Struct]] = {
    "Network": NetworkSpec,
    "Node": NodeSpec,
    "Block": BlockSpec,
    "Borrow": BorrowSpec,
    **BGP_KINDS,
}
#: what nodes write, and nobody declares: kind → how it comes about, and what to declare instead
MADE = {
    "Block": ("blocks are claimed by nodes, not declared", "declare the pools of a Network"),
    "Borrow": ("addresses are borrowed by nodes, not declared", "declare larger pools of a Network"),
    "BGPTopology": (
        "it is chosen by the agents, not declared",
        "declare mesh and reflectors of a BGPConfiguration",
    ),
}
APPLICABLE = tuple(kind for kind in SPECS if kind not in MADE)
FRAME = ("apiVersion", "kind", "metadata", "spec")
Resource = Network | Node | Block | Borrow | BgpResource


class InvalidDocument(InvalidInput):
    """One or more problems of one document."""

    def __init__(self, problems: list[Problem], where: str = "") -> None:
        first = problems[0]
        place = f"{where}: {first.path}" if where else first.path
        super().__init__(first.what, place, first.fix)
        self.problems = problems


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


def decode(document: Any) -> Resource:
    """The resource of a decoded document. Raises InvalidDocument with all its problems."""
    if not isinstance(document, dict):
        what = f"a document is a mapping, this is {_type_of(document)}"
        raise InvalidDocument([Problem("", what, "start with apiVersion, kind, metadata and spec")])
    problems = list(_frame_problems(document))
    name = _name(document.get("metadata"), problems)
    kind = document.get("kind")
    if kind not in APPLICABLE:
        raise InvalidDocument(problems)
    spec = _worded(document.get("spec", {}))
    decoded = _spec(spec, SPECS[kind], problems)
    if isinstance(decoded, NetworkSpec):
        problems += preset_problems(decoded, spec) + network_problems(decoded)
    elif isinstance(decoded, NodeSpec):
        problems += node_problems(decoded)
    elif isinstance(decoded, BgpSpec):
        problems += bgp_problems(decoded, name)
    if problems or decoded is None:
        raise InvalidDocument(problems)
    return make(kind, name, canonical(decoded))


def _worded(spec: Any) -> Any:
    """YAML 1.1 reads the words on and off as truth values; of a mesh they are two of three words."""
    if isinstance(spec, dict) and isinstance(spec.get("mesh"), bool):
        return spec | {"mesh": "on" if spec["mesh"] else "off"}
    return spec


def _type_of(value: Any) -> str:
    words = {dict: "a mapping", list: "a list", type(None): "empty", str: "text", bool: "a truth value"}
    return words.get(type(value), f"{type(value).__name__} {value!r}")


def _frame_problems(document: dict[Any, Any]) -> Iterator[Problem]:
    version, kind = document.get("apiVersion"), document.get("kind")
    if version != API_VERSION:
        what = "is missing" if version is None else f"{version!r} is not known"
        yield Problem("apiVersion", what, f"write {API_VERSION}")
    if isinstance(kind, str) and kind in MADE:
        yield Problem("kind", *MADE[kind])
    elif kind not in APPLICABLE:
        what = "is missing" if kind is None else f"{kind!r} is no kind"
        yield Problem("kind", what, suggest("" if kind is None else str(kind), APPLICABLE))
    for key in document:
        if key not in ("apiVersion", "kind", "metadata", "spec", "status"):
            yield Problem(str(key), "unknown key", suggest(str(key), FRAME))


def _spec(value: Any, kind: type[msgspec.Struct], problems: list[Problem]) -> msgspec.Struct | None:
    """Decode strictly; None, with at least one problem, when that is not possible."""
    found = list(_strict(value, kind, "spec"))
    problems += found
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        problem = _of_msgspec(error)
        if not any(one.path == problem.path for one in found):
            problems.append(problem)
        return None


def make(kind: str, name: str, spec: msgspec.Struct) -> Resource:
    """The value of a kind's spec."""
    if isinstance(spec, NetworkSpec):
        return Network(name=name, spec=spec)
    if isinstance(spec, NodeSpec):
        return Node(name=name, spec=spec)
    if isinstance(spec, BlockSpec):
        return Block(cidr=name, spec=spec)
    if isinstance(spec, BorrowSpec):
        return Borrow(address=name, spec=spec)
    if isinstance(spec, BgpSpec):
        return BgpResource(kind=kind, name=name, spec=spec)
    raise InvalidInput(f"{kind} is no kind", name)


def _name(metadata: Any, problems: list[Problem]) -> str:
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        problems.append(Problem("metadata.name", "is missing", "metadata: {name: NAME}"))
        return ""
    for key in metadata:
        if key != "name":
            problems.append(Problem(f"metadata.{key}", "unknown key", suggest(str(key), ("name",))))
    name: str = metadata["name"]
    if not NAME.fullmatch(name):
        fix = "lower case letters, digits and - inside, at most 63 characters"
        problems.append(Problem("metadata.name", f"{name!r} is no legal name", fix))
    return name


def _of_msgspec(error: msgspec.ValidationError) -> Problem:
    what, _, path = str(error).partition(" - at `")
    return Problem("spec" + path.rstrip("`").removeprefix("$"), what)


def _strict(value: Any, kind: Any, path: str) -> Iterator[Problem]:
    """Unknown keys and choices. msgspec alone would stop at the first and suggest nothing."""
    if hasattr(kind, "__metadata__"):  # Annotated
        kind = kind.__origin__
    if isinstance(value, dict) and isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        fields = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
        for key, inner in value.items():
            if key in fields:
                yield from _strict(inner, fields[key], f"{path}.{key}")
            else:
                yield Problem(f"{path}.{key}", "unknown key", suggest(str(key), fields))
    elif isinstance(value, list) and get_origin(kind) is tuple:
        for number, inner in enumerate(value):
            yield from _strict(inner, get_args(kind)[0], f"{path}[{number}]")
    elif isinstance(value, str) and get_origin(kind) is Literal and value not in get_args(kind):
        yield Problem(path, f"{value!r} is not known", suggest(value, get_args(kind)))


def resolve(network: Network) -> Network:
    """The network with its preset's attach and transport filled in. Raises InvalidInput: no such preset."""
    preset = network.spec.preset
    if not preset:
        return network
    if preset not in PRESETS:
        where = f"network {network.name}"
        raise InvalidInput(f"preset {preset!r} is not known here", where, suggest(preset, PRESETS))
    attach, transport = PRESETS[preset]
    spec = msgspec.structs.replace(network.spec, attach=attach, transport=transport)
    if preset in DIRECT_PRESETS:
        spec = msgspec.structs.replace(spec, ipip=IpipSpec(direct_within_subnet=True))
    return Network(name=network.name, spec=spec)


def kind_of(resource: Resource) -> str:
    """The kind of its document."""
    return resource.kind if isinstance(resource, BgpResource) else type(resource).__name__


def name_of(resource: Resource) -> str:
    """What it is called in the store."""
    if isinstance(resource, Borrow):
        return resource.address
    return resource.cidr if isinstance(resource, Block) else resource.name


def encode(resource: Resource) -> dict[str, Any]:
    """The document of a resource."""
    return _document(kind_of(resource), name_of(resource), msgspec.to_builtins(resource.spec))


def veiled(document: dict[str, Any]) -> dict[str, Any]:
    """A document for a terminal: of a password only so much that a change of it is seen."""
    spec = document["spec"]
    if document["kind"] != "BGPPeer" or not isinstance(spec, dict) or "password" not in spec:
        return document
    known_by = hashlib.sha256(str(spec["password"]).encode()).hexdigest()[:4]
    return document | {"spec": spec | {"password": f"… (#{known_by})"}}


def show(record: StoredObject) -> dict[str, Any]:
    """The document of a record as it is stored, fields of a later version and status included."""
    document = _document(record.kind, record.name, _json(record.spec))
    if status := _json(record.status):
        document["status"] = status
    return document


def _json(text: bytes) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return text.decode(errors="replace")


def _document(kind: str, name: str, spec: Any) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


def spec_json(resource: Resource) -> bytes:
    """What the store keeps of a resource."""
    return msgspec.json.encode(resource.spec)

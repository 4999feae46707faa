"""The decoded YAML of a lab → a topology. Pure; strict, and every problem says at which path.

segments: {lan: {cidrs: [192.0.2.0/24, "fd00:192:0:2::/64"], mtu: 1500}, far: {cidrs: […], delay: 20ms}}
routers:  {router: {segments: [lan, far]}, tor: {segments: [lan], bgp: {asNumber: 65001}}}
hosts:    {internet: {segment: far}}
nodes:    {node1: {segment: lan, mtu: 1500, loss: 1%, pods: 2},
           node2: {segment: lan, pods: [web, {name: db, network: other}]}}
preset:   flannel-host-gw                 # or  documents: [ …Network and Node documents… ]
store:    {etcd: HOST}                    # an etcd on one of the hosts; default: a file
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec

from podway.lab import topology
from podway.lab.topology import Role, Segment, Topology, Weather, Wish
from podway.model.documents import APPLICABLE, InvalidDocument
from podway.model.documents import decode as decode_document
from podway.model.problems import Problem, suggest
from podway.model.resources import PRESETS

#: Names of machines and pods are those of network namespaces and Node objects.
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")
MOST_PODS = 250
LEAST_MTU = 1280  # RFC 8200 section 5
DELAY = re.compile(r"(\d+(?:\.\d+)?)ms")
LOSS = re.compile(r"(\d+(?:\.\d+)?)%")
MOST_DELAY, MOST_LOSS = 60_000.0, 100.0
MOST_AS = 0xFFFF_FFFE  # RFC 6793, and the last one reserved by RFC 7300


class _Part(msgspec.Struct, frozen=True, kw_only=True):
    """Base of what is written for one thing of the file."""


class _Link(_Part, frozen=True, kw_only=True):
    """What has a link, or is one: ``delay`` as "20ms", ``loss`` as "0.5%"."""

    mtu: int = 0
    delay: str = ""
    loss: str = ""

    @property
    def weather(self) -> Weather:
        """Raises ValueError."""
        return Weather(delay=_number(self.delay, DELAY, "20ms"), loss=_number(self.loss, LOSS, "0.5%"))


class SegmentPart(_Link, frozen=True, kw_only=True):
    """An Ethernet segment and its prefixes. Delay and loss are of every packet that passes it, once."""

    cidrs: tuple[str, ...]
    mtu: int = topology.MTU


class RouterPart(_Part, frozen=True, kw_only=True):
    """A machine that forwards between ``segments``, and speaks BGP if it is told."""

    segments: tuple[str, ...]
    bgp: topology.Bgp | None = None


class HostPart(_Link, frozen=True, kw_only=True):
    """A machine on ``segment`` that is no node; with ``bgp`` a reflector of routes, say."""

    segment: str
    bgp: topology.Bgp | None = None


class PodPart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A pod that names its network; one that is a bare name is of the first."""

    name: str
    network: str


class NodePart(_Link, frozen=True, kw_only=True):
    """A machine with an agent; ``pods`` by number, or each by itself."""

    segment: str
    pods: int | tuple[str | PodPart, ...] = 2

    def names(self, node: str) -> tuple[str, ...]:
        """The names of its pods."""
        if isinstance(self.pods, int):
            return topology.pod_names(node, min(max(self.pods, 0), MOST_PODS))
        return tuple(pod if isinstance(pod, str) else pod.name for pod in self.pods)

    def attached(self) -> dict[str, str]:
        """Pod → network, of those that name one."""
        pods = () if isinstance(self.pods, int) else self.pods
        return {pod.name: pod.network for pod in pods if isinstance(pod, PodPart)}


PARTS: dict[str, type[_Part]] = {
    "segments": SegmentPart,
    "routers": RouterPart,
    "hosts": HostPart,
    "nodes": NodePart,
}
KEYS = (*PARTS, "preset", "documents", "store")
Parts = dict[str, dict[str, Any]]


def decode(value: Any) -> Topology:
    """The topology of a decoded file. Raises InvalidDocument with all its problems."""
    problems: list[Problem] = []
    if not isinstance(value, dict):
        raise InvalidDocument([Problem("", f"a lab is a mapping, this is {type(value).__name__}")])
    for key in value:
        if key not in KEYS:
            problems.append(Problem(str(key), "unknown key", suggest(str(key), KEYS)))
    parts: Parts = {key: _section(value.get(key), key, problems) for key in PARTS}
    documents = _documents(value, problems)
    problems += _link_problems(parts)
    if not problems:
        problems += [*_contradictions(parts), *_bgp_problems(parts)]
    etcd = _etcd(value.get("store"), parts, problems)
    if not problems:
        problems += _network_problems(parts, documents)
    if problems:
        raise InvalidDocument(problems)
    segments = tuple(
        Segment(name=name, cidrs=part.cidrs, mtu=part.mtu, weather=part.weather)
        for name, part in parts["segments"].items()
    )
    try:
        whole = topology.build(segments, tuple(_wishes(parts)), documents, _attached(parts))
    except ValueError as error:
        raise InvalidDocument([Problem("segments", str(error), "a shorter prefix")]) from error
    return msgspec.structs.replace(whole, etcd=etcd)


def _etcd(value: Any, parts: Parts, problems: list[Problem]) -> str:
    """The host that runs the store, "" = a file."""
    if value is None:
        return ""
    if not isinstance(value, dict) or list(value) != ["etcd"]:
        problems.append(Problem("store", "is no store that a lab has", "{etcd: HOST}, or leave it out"))
        return ""
    host = str(value["etcd"])
    if host not in parts["hosts"]:
        problems.append(Problem("store.etcd", f"{host!r} is no host", suggest(host, parts["hosts"])))
    return host


def _section(value: Any, key: str, problems: list[Problem]) -> dict[str, Any]:
    """Name → decoded part; what can't be decoded is left out, with a problem."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        problems.append(Problem(key, "is no mapping of names", f"{key}: {{NAME: …}}"))
        return {}
    kind = PARTS[key]
    fields = [field.encode_name for field in msgspec.structs.fields(kind)]
    found: dict[str, Any] = {}
    for name, inner in value.items():
        path = f"{key}.{name}"
        if not isinstance(name, str) or not NAME.fullmatch(name):
            problems.append(Problem(path, f"{name!r} is no legal name", "lower case letters, digits, -"))
            continue
        if isinstance(inner, dict):
            unknown = [one for one in inner if one not in fields]
            problems += [Problem(f"{path}.{u}", "unknown key", suggest(str(u), fields)) for u in unknown]
        try:
            found[name] = msgspec.convert(inner, kind)
        except msgspec.ValidationError as error:
            what, _, place = str(error).partition(" - at `$")
            problems.append(Problem(path + place.rstrip("`"), what))
    return found


def _documents(value: dict[str, Any], problems: list[Problem]) -> tuple[dict[str, Any], ...]:
    preset, documents = value.get("preset"), value.get("documents")
    if documents is None:
        name = topology.PRESET if preset is None else preset
        if name not in PRESETS:
            problems.append(Problem("preset", f"{name!r} is no preset", suggest(str(name), PRESETS)))
        return (topology.network_document(str(name)),)
    if preset is not None:
        problems.append(Problem("preset", "stands beside documents", "keep one of the two"))
    if not isinstance(documents, list):
        problems.append(Problem("documents", "is no list", f"a list of {' and '.join(APPLICABLE)} documents"))
        return ()
    for number, document in enumerate(documents):
        try:
            decode_document(document)
        except InvalidDocument as error:
            path = f"documents[{number}]"
            problems += [Problem(f"{path}.{p.path}".rstrip("."), p.what, p.fix) for p in error.problems]
    if not any(isinstance(one, dict) and one.get("kind") == "Network" for one in documents):
        problems.append(Problem("documents", "there is no Network among them", "or write preset: NAME"))
    return tuple(documents)


def _contradictions(parts: Parts) -> Iterator[Problem]:
    """What each part says alone is legal; this is what they say together."""
    if not parts["nodes"]:
        yield Problem("nodes", "there is none", "nodes: {node1: {segment: lan}}")
    yield from _prefix_problems(parts["segments"])
    for section, part, path, name in _references(parts):
        if name not in parts["segments"]:
            yield Problem(path, f"{name!r} is no segment", suggest(name, parts["segments"]))
        elif getattr(part, "mtu", 0) > parts["segments"][name].mtu:
            mtu = parts["segments"][name].mtu
            yield Problem(f"{section}.mtu", f"{part.mtu} is more than its segment carries, {mtu}")
    yield from _name_problems(parts)


def _link_problems(parts: Parts) -> Iterator[Problem]:
    """MTUs, delays and losses that can't be."""
    for section in ("segments", "nodes", "hosts"):
        for name, part in parts[section].items():
            path = f"{section}.{name}"
            if part.mtu and part.mtu < LEAST_MTU:
                yield Problem(f"{path}.mtu", f"{part.mtu} is too small", f"at least {LEAST_MTU}")
            try:
                weather = part.weather
            except ValueError as error:
                yield Problem(path, str(error))
                continue
            if weather.delay > MOST_DELAY or weather.loss > MOST_LOSS:
                yield Problem(path, "more than can be", f"at most {MOST_DELAY:.0f}ms and {MOST_LOSS:.0f}%")


def _network_problems(parts: Parts, documents: tuple[dict[str, Any], ...]) -> Iterator[Problem]:
    known = [str(one["metadata"]["name"]) for one in documents if one.get("kind") == "Network"]
    for name, part in parts["nodes"].items():
        for network in part.attached().values():
            if network not in known:
                yield Problem(f"nodes.{name}.pods", f"{network!r} is no network", suggest(network, known))


def _bgp_problems(parts: Parts) -> Iterator[Problem]:
    """Speakers that have nobody to speak with, or the wrong AS for what they are."""
    nodes = {node.segment for node in parts["nodes"].values()}
    speaking = [one for one in _wishes(parts) if one.bgp]
    for wish in speaking:
        path = f"{wish.role}s.{wish.name}.bgp"
        bgp = wish.bgp
        assert bgp is not None
        for key, number in (("asNumber", bgp.as_number), ("nodesAs", bgp.nodes_as)):
            if not 1 <= number <= MOST_AS:
                yield Problem(f"{path}.{key}", f"{number} is no AS number", f"1 to {MOST_AS}")
        if bgp.reflector and bgp.as_number != bgp.nodes_as:
            what = f"a reflector is of the nodes' AS, {bgp.nodes_as}, and not of {bgp.as_number}"
            yield Problem(f"{path}.reflector", what, f"asNumber: {bgp.nodes_as}, or no reflector")
        others = {name for one in speaking if one is not wish for name in one.segments}
        if not set(wish.segments) & (nodes | others):
            yield Problem(path, "no node and no other speaker is on its segments", "put it on a node's")


def _references(parts: Parts) -> Iterator[tuple[str, Any, str, str]]:
    """(path of the part, the part, path of the reference, segment named) of every plug."""
    for section in ("nodes", "hosts"):
        for name, part in parts[section].items():
            yield f"{section}.{name}", part, f"{section}.{name}.segment", part.segment
    for name, part in parts["routers"].items():
        for number, segment in enumerate(part.segments):
            yield f"routers.{name}", part, f"routers.{name}.segments[{number}]", segment


def _prefix_problems(segments: dict[str, Any]) -> Iterator[Problem]:
    seen: list[tuple[str, topology.IpNetwork]] = []
    for name, part in segments.items():
        families = set()
        for number, cidr in enumerate(part.cidrs):
            path = f"segments.{name}.cidrs[{number}]"
            try:
                prefix = ipaddress.ip_network(cidr)
            except ValueError as error:
                yield Problem(path, str(error), "such as 192.0.2.0/24")
                continue
            if prefix.version in families:
                yield Problem(path, "a second prefix of one family", "one IPv4 and one IPv6 prefix")
            families.add(prefix.version)
            for other, taken in seen:
                if prefix.version == taken.version and prefix.overlaps(taken):
                    yield Problem(path, f"{prefix} overlaps {taken} of segment {other}")
            seen.append((name, prefix))
        if not part.cidrs:
            yield Problem(f"segments.{name}.cidrs", "there is none")


def _name_problems(parts: Parts) -> Iterator[Problem]:
    """Machines and pods are network namespaces: one name each."""
    names = Counter(wish.name for wish in _wishes(parts))
    for section in ("nodes", "hosts", "routers"):
        for name in parts[section]:
            if names[name] > 1:
                yield Problem(f"{section}.{name}", "this name stands twice", "every machine has its own")
    pods = Counter(pod for wish in _wishes(parts) for pod in wish.pods)
    for name, part in parts["nodes"].items():
        path = f"nodes.{name}.pods"
        if isinstance(part.pods, int) and not 0 <= part.pods <= MOST_PODS:
            yield Problem(path, f"{part.pods} pods", f"0 to {MOST_PODS}")
            continue
        for pod in part.names(name):
            if not NAME.fullmatch(pod):
                yield Problem(path, f"{pod!r} is no legal name", "lower case letters, digits, -")
            if pods[pod] + names[pod] > 1:
                yield Problem(path, f"{pod!r} stands twice", "every pod has a name of its own")


def _attached(parts: Parts) -> dict[str, str]:
    return {pod: network for part in parts["nodes"].values() for pod, network in part.attached().items()}


def _wishes(parts: Parts) -> Iterator[Wish]:
    for name, node in parts["nodes"].items():
        yield _plugged(name, "node", node, node.names(name))
    for name, router in parts["routers"].items():
        yield Wish(name=name, role="router", segments=tuple(router.segments), bgp=router.bgp)
    for name, host in parts["hosts"].items():
        yield _plugged(name, "host", host, ())


def _plugged(name: str, role: Role, part: NodePart | HostPart, pods: tuple[str, ...]) -> Wish:
    segments = (part.segment,)
    bgp = part.bgp if isinstance(part, HostPart) else None
    return Wish(
        name=name, role=role, segments=segments, mtu=part.mtu, weather=part.weather, pods=pods, bgp=bgp
    )


def _number(text: str, form: re.Pattern[str], example: str) -> float:
    """Raises ValueError."""
    if not text:
        return 0.0
    found = form.fullmatch(text)
    if not found:
        raise ValueError(f"{text!r} is no such value as {example}")
    return float(found[1])

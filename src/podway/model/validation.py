"""What must hold within a spec, and between specs. Pure; every Problem says where and what to do."""

from __future__ import annotations

import ipaddress
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from podway.model.objects import family_of
from podway.model.problems import Problem, suggest
from podway.model.resources import (
    BLOCK_SIZES,
    PRESETS,
    DetectSpec,
    Network,
    NetworkSpec,
    Node,
    NodeSpec,
    Pool,
)

S = TypeVar("S", bound=msgspec.Struct)

IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
LEAST_MTU = {4: 576, 6: 1280}  # RFC 791 section 3.1, RFC 8200 section 5
MOST_MTU = 65535
MOST_VNI, MOST_PORT = (1 << 24) - 1, 65535  # RFC 7348 section 5, RFC 768
IFNAMSIZ = 15
LEAST_HOSTS = 4  # a bridged block keeps back three addresses

#: What no pod can have: this network, loopback, link-local, multicast, reserved (RFC 6890, RFC 4291).
UNUSABLE = [
    *map(ipaddress.ip_network, ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4")),
    *map(ipaddress.ip_network, ("::/127", "fe80::/10", "ff00::/8")),
]


def _prefix(text: str) -> IpNetwork | str:
    """The prefix, or what is wrong with it."""
    if "/" not in text:
        return f"{text!r} has no prefix length; a prefix is such as 10.244.0.0/16"
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        pass
    try:
        loose = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return f"{text!r} is no prefix such as 10.244.0.0/16"
    return f"{text!r} has host bits set; the prefix is {loose}"


def node_problems(spec: NodeSpec) -> list[Problem]:
    """Problems within a Node's spec."""
    problems = [*_detect_problems(spec.detect)]
    for number, address in enumerate(spec.addresses):
        path = f"spec.addresses[{number}]"
        try:
            ip = ipaddress.ip_interface(address).ip
        except ValueError:
            problems.append(Problem(path, f"{address!r} is no address", "such as 192.0.2.1/24"))
            continue
        if ip.is_loopback or ip.is_multicast or ip.is_unspecified or ip.is_link_local:
            problems.append(Problem(path, f"{address} reaches no other machine", "such as 192.0.2.1/24"))
        if "/" not in address:
            problems.append(Problem(path, f"{address!r} has no prefix length", f"such as {address}/24"))
    return problems


def _detect_problems(spec: DetectSpec) -> Iterator[Problem]:
    for key, patterns in (("interfaces", spec.interfaces), ("skip", spec.skip)):
        for number, pattern in enumerate(patterns):
            try:
                re.compile(pattern)
            except re.error as error:
                what = f"{pattern!r} is no regular expression: {error}"
                yield Problem(f"spec.detect.{key}[{number}]", what, "such as eth0 or ens.*")
    for number, cidr in enumerate(spec.cidrs):
        prefix = _prefix(cidr)
        if isinstance(prefix, str):
            yield Problem(f"spec.detect.cidrs[{number}]", prefix)
    try:
        if spec.can_reach:
            ipaddress.ip_address(spec.can_reach)
    except ValueError:
        yield Problem("spec.detect.canReach", f"{spec.can_reach!r} is no address", "such as 192.0.2.254")


def network_problems(spec: NetworkSpec) -> list[Problem]:
    """Problems within a Network's spec, apart from its preset's."""
    problems = []
    if not spec.pools:
        problems.append(Problem("spec.pools", "there is none", "pools: [{cidr: 10.244.0.0/16}]"))
    prefixes: list[tuple[int, IpNetwork]] = []
    attach = PRESETS[spec.preset][0] if spec.preset in PRESETS else spec.attach
    for number, pool in enumerate(spec.pools):
        problems += _pool_problems(pool, attach, f"spec.pools[{number}]")
        prefix = _prefix(pool.cidr)
        if not isinstance(prefix, str):
            for earlier, other in prefixes:
                if prefix.overlaps(other):
                    what = f"{prefix} overlaps pools[{earlier}], {other}"
                    problems.append(Problem(f"spec.pools[{number}].cidr", what, "remove one of them"))
            prefixes.append((number, prefix))
    problems += [*_mtu_problems(spec), *_bridge_problems(spec), *_tunnel_problems(spec)]
    problems += _interop_problems(spec)
    if spec.cooldown < 0:
        problems.append(Problem("spec.cooldown", "is negative", "seconds, 0 or more"))
    return problems


def _tunnel_problems(spec: NetworkSpec) -> Iterator[Problem]:
    for key, value, most in (
        ("vxlan.vni", spec.vxlan.vni, MOST_VNI),
        ("vxlan.port", spec.vxlan.port, MOST_PORT),
        ("wireguard.port", spec.wireguard.port, MOST_PORT),
    ):
        if not 1 <= value <= most:
            yield Problem(f"spec.{key}", f"{value} is out of range", f"1 to {most}")
    if spec.wireguard.direct_within_subnet and not spec.wireguard.allow_plaintext:
        what = "peers on the same segment would be sent plaintext"
        fix = "remove it, or set wireguard.allowPlaintext: true where the segment may be read by all on it"
        yield Problem("spec.wireguard.directWithinSubnet", what, fix)


def _bridge_problems(spec: NetworkSpec) -> Iterator[Problem]:
    name = spec.bridge.name
    illegal = len(name) > IFNAMSIZ or set("/:") & set(name) or name in (".", "..") or name.split() != [name]
    if name and illegal:
        fix = f"at most {IFNAMSIZ} characters, no / : or space"
        yield Problem("spec.bridge.name", f"{name!r} is no name of a link", fix)
    if spec.bridge.adopt and not name:
        yield Problem("spec.bridge.adopt", "which bridge?", "give bridge.name")


def _interop_problems(spec: NetworkSpec) -> Iterator[Problem]:
    transport = PRESETS[spec.preset][1] if spec.preset in PRESETS else spec.transport
    if not spec.interop:
        if spec.flannel.etcd:
            yield Problem("spec.flannel", "is not used", "write interop: flannel-etcd, or remove flannel")
        return
    if transport not in ("vxlan", "host-gw"):
        what = f"{spec.interop} does not go with transport {transport}"
        yield Problem("spec.interop", what, "use transport vxlan or host-gw, as Flannel's backend is")
    if not spec.flannel.etcd.startswith("etcd:"):
        what = "is missing" if not spec.flannel.etcd else f"{spec.flannel.etcd!r} names no etcd"
        yield Problem("spec.flannel.etcd", what, "such as etcd:http://192.0.2.10:2379/coreos.com/network")
    if len({family_of(pool.cidr) for pool in spec.pools if "/" in pool.cidr}) != len(spec.pools):
        yield Problem("spec.pools", "Flannel knows one network of each IP family", "keep one pool of each")


def preset_problems(spec: NetworkSpec, written: Mapping[str, Any]) -> list[Problem]:
    """Problems of preset, attach and transport; ``written`` is the spec as it stood in the document."""
    if spec.preset and spec.preset not in PRESETS:
        return [Problem("spec.preset", f"{spec.preset!r} is no preset", suggest(spec.preset, PRESETS))]
    attach, transport = PRESETS.get(spec.preset, (spec.attach, spec.transport))
    problems = [
        Problem(
            f"spec.{key}",
            f"{written[key]} contradicts preset {spec.preset}, which is {own}",
            f"remove {key}, or remove preset",
        )
        for key, own in (("attach", attach), ("transport", transport))
        if written.get(key, own) != own
    ]
    if attach == "routed" and "bridge" in written:
        what = "attach: routed has no bridge"
        problems.append(Problem("spec.bridge", what, "remove it, or use attach: bridge"))
    return problems


def canonical(spec: S) -> S:
    """The spec with every address and prefix in the one spelling that the kernel's are compared with."""
    if isinstance(spec, NetworkSpec):
        pools = tuple(
            msgspec.structs.replace(pool, cidr=str(ipaddress.ip_network(pool.cidr))) for pool in spec.pools
        )
        return msgspec.structs.replace(spec, pools=pools)
    if isinstance(spec, NodeSpec):
        addresses = tuple(str(ipaddress.ip_interface(address)) for address in spec.addresses)
        return msgspec.structs.replace(spec, addresses=addresses)
    return spec


def _pool_problems(pool: Pool, attach: str, path: str) -> list[Problem]:
    prefix = _prefix(pool.cidr)
    if isinstance(prefix, str):
        return [Problem(f"{path}.cidr", prefix)]
    problems = []
    default = BLOCK_SIZES[attach][0 if prefix.version == 4 else 1]
    size = default if pool.block_size is None else pool.block_size
    if size < prefix.prefixlen:
        what = f"a block of /{size} does not fit into {prefix}"
        problems.append(Problem(f"{path}.blockSize", what, f"/{prefix.prefixlen} or longer"))
    elif (1 << (prefix.max_prefixlen - size if size <= prefix.max_prefixlen else 0)) < LEAST_HOSTS:
        what = f"a block of /{size} has no address for a pod"
        problems.append(Problem(f"{path}.blockSize", what, f"/{prefix.max_prefixlen - 3} or shorter"))
    for unusable in UNUSABLE:
        if prefix.overlaps(unusable):
            problems.append(Problem(f"{path}.cidr", f"{prefix} overlaps {unusable}, which pods can't have"))
    for number, text in enumerate(pool.reserved):
        problems += _reserved_problems(text, prefix, f"{path}.reserved[{number}]")
    return problems


def _reserved_problems(text: str, pool: IpNetwork, path: str) -> list[Problem]:
    try:
        first, last = reserved_range(text)
    except ValueError:
        return [Problem(path, f"{text!r} is no address, prefix or range", "such as 10.244.0.10-10.244.0.20")]
    if first not in pool or last not in pool:
        return [Problem(path, f"{text} is not inside {pool}")]
    return []


def reserved_range(text: str) -> tuple[IpAddress, IpAddress]:
    """First and last address of "a", "a/n" or "a-b". Raises ValueError."""
    if "-" in text:
        first, _, last = text.partition("-")
        ends = ipaddress.ip_address(first.strip()), ipaddress.ip_address(last.strip())
        if ends[0].version != ends[1].version or int(ends[0]) > int(ends[1]):
            raise ValueError(text)
        return ends
    network = ipaddress.ip_network(text)
    return network[0], network[-1]


def _mtu_problems(spec: NetworkSpec) -> list[Problem]:
    if spec.mtu == "auto":
        return []
    least = max((LEAST_MTU[family_of(pool.cidr)] for pool in spec.pools), default=576)
    if not least <= spec.mtu <= MOST_MTU:
        return [Problem("spec.mtu", f"{spec.mtu} is out of range", f"auto, or {least} to {MOST_MTU}")]
    return []


class Found(msgspec.Struct, frozen=True):
    """A problem of one of several documents."""

    kind: str
    name: str
    problem: Problem


def cluster_problems(
    networks: Mapping[str, Network], nodes: Mapping[str, Node], routes: Iterable[str] = ()
) -> list[Found]:
    """Problems between documents: pools over pools, nodes' addresses or host routes; shared addresses.

    ``routes``: prefixes that this host reaches otherwise; a default route is no objection."""
    known = tuple(routes)
    pools = [
        (name, f"spec.pools[{number}].cidr", ipaddress.ip_network(pool.cidr))
        for name, network in sorted(networks.items())
        for number, pool in enumerate(network.spec.pools)
    ]
    taken = [
        (name, f"spec.addresses[{number}]", ipaddress.ip_interface(address).ip)
        for name, node in sorted(nodes.items())
        for number, address in enumerate(node.spec.addresses)
    ]
    fix = "choose another pool"
    found = []
    for name, path, prefix in pools:
        words = [
            f"{prefix} overlaps pool {other} of network {whose}"
            for whose, _, other in pools
            if whose != name and prefix.overlaps(other)
        ]
        words += [
            f"{prefix} holds {address}, the address of node {node}"
            for node, _, address in taken
            if address in prefix
        ]
        words += [f"{prefix} overlaps this host's route {route}" for route in _overlapping(prefix, known)]
        found += [Found("Network", name, Problem(path, what, fix)) for what in words]
    found += _same_tunnel(networks)
    return found + [
        Found("Node", name, Problem(path, what, "choose another address"))
        for name, path, address in taken
        for what in _objections(name, address, pools, taken)
    ]


def _same_tunnel(networks: Mapping[str, Network]) -> Iterator[Found]:
    """Two networks in one tunnel would be given each other's packets."""
    users = sorted((name, n.spec.vxlan) for name, n in networks.items() if n.spec.transport == "vxlan")
    for name, tunnel in users:
        same = [
            other
            for other, theirs in users
            if other != name
            and (theirs.vni, theirs.port, theirs.underlay) == (tunnel.vni, tunnel.port, tunnel.underlay)
        ]
        for other in same:
            what = f"VNI {tunnel.vni} on UDP port {tunnel.port} is network {other}'s already"
            yield Found("Network", name, Problem("spec.vxlan.vni", what, "choose another"))
    ports = sorted(
        (n.spec.wireguard.port, name) for name, n in networks.items() if n.spec.transport == "wireguard"
    )
    for (port, name), (following, other) in itertools.pairwise(ports):
        if port == following:
            what = f"UDP port {port} is network {name}'s already"
            yield Found("Network", other, Problem("spec.wireguard.port", what, "choose another"))


def _objections(
    name: str,
    address: IpAddress,
    pools: Sequence[tuple[str, str, IpNetwork]],
    taken: Sequence[tuple[str, str, IpAddress]],
) -> Iterator[str]:
    """Why a node can't have an address."""
    for network, _, prefix in pools:
        if address in prefix:
            yield f"{address} is in pool {prefix} of network {network}"
    for other, _, theirs in taken:
        if other != name and theirs == address:
            yield f"{address} is an address of node {other} too"


def _overlapping(prefix: IpNetwork, routes: Iterable[str]) -> Sequence[str]:
    parsed = ((text, ipaddress.ip_network(text)) for text in routes)
    return [text for text, route in parsed if route.prefixlen and route.overlaps(prefix)]

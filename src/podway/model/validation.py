"""What must hold within a spec, and between specs. Pure; every Problem says where and what to do."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence

from podway.model.documents import Problem, suggest
from podway.model.objects import family_of
from podway.model.resources import BLOCK_SIZES, PRESETS, Network, NetworkSpec, Node, NodeSpec, Pool

IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
LEAST_MTU = {4: 576, 6: 1280}  # RFC 791 section 3.1, RFC 8200 section 5
MOST_MTU = 65535
IFNAMSIZ = 15
LEAST_HOSTS = 4  # a bridged block keeps back three addresses


def _prefix(text: str) -> IpNetwork | str:
    """The prefix, or what is wrong with it."""
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
    problems = []
    for number, address in enumerate(spec.addresses):
        path = f"spec.addresses[{number}]"
        try:
            ipaddress.ip_interface(address)
        except ValueError:
            problems.append(Problem(path, f"{address!r} is no address", "such as 192.0.2.1/24"))
            continue
        if "/" not in address:
            problems.append(Problem(path, f"{address!r} has no prefix length", f"such as {address}/24"))
    return problems


def network_problems(spec: NetworkSpec) -> list[Problem]:
    """Problems within a Network's spec."""
    problems = _preset_problems(spec)
    if not spec.pools:
        problems.append(Problem("spec.pools", "there is none", "pools: [{cidr: 10.244.0.0/16}]"))
    prefixes: list[tuple[int, IpNetwork]] = []
    attach = PRESETS[spec.preset][0] if spec.preset in PRESETS else spec.attach
    for number, pool in enumerate(spec.pools):
        found = _pool_problems(pool, attach, f"spec.pools[{number}]")
        problems += found
        prefix = _prefix(pool.cidr)
        if not isinstance(prefix, str):
            for earlier, other in prefixes:
                if prefix.overlaps(other):
                    what = f"{prefix} overlaps pool {earlier}, {other}"
                    problems.append(Problem(f"spec.pools[{number}].cidr", what))
            prefixes.append((number, prefix))
    problems += _mtu_problems(spec)
    name = spec.bridge.name
    if name and (
        len(name) > IFNAMSIZ or "/" in name or ":" in name or name in (".", "..") or name.split() != [name]
    ):
        what = f"{name!r} is no name of a link"
        problems.append(Problem("spec.bridge.name", what, f"at most {IFNAMSIZ} characters, no / : or space"))
    if spec.bridge.adopt and not name:
        problems.append(Problem("spec.bridge.adopt", "which bridge?", "give bridge.name"))
    if spec.cooldown < 0:
        problems.append(Problem("spec.cooldown", "is negative", "seconds, 0 or more"))
    return problems


def _preset_problems(spec: NetworkSpec) -> list[Problem]:
    if spec.preset and spec.preset not in PRESETS:
        return [Problem("spec.preset", f"{spec.preset!r} is no preset", suggest(spec.preset, PRESETS))]
    problems = []
    attach, transport = PRESETS.get(spec.preset, (spec.attach, spec.transport))
    default = NetworkSpec(pools=())
    for key, value, own, unset in (
        ("attach", spec.attach, attach, default.attach),
        ("transport", spec.transport, transport, default.transport),
    ):
        if value not in (own, unset):
            what = f"{value} contradicts preset {spec.preset}, which is {own}"
            problems.append(Problem(f"spec.{key}", what, f"remove {key}, or remove preset"))
    if attach == "routed":
        what = "attach: routed is not in this version yet"
        problems.append(Problem("spec.attach", what, "use attach: bridge"))
    return problems


def _pool_problems(pool: Pool, attach: str, path: str) -> list[Problem]:
    prefix = _prefix(pool.cidr)
    if isinstance(prefix, str):
        return [Problem(f"{path}.cidr", prefix)]
    problems = []
    size = pool.block_size or BLOCK_SIZES[attach][0 if prefix.version == 4 else 1]
    if size < prefix.prefixlen:
        what = f"a block of /{size} does not fit into {prefix}"
        problems.append(Problem(f"{path}.blockSize", what, f"/{prefix.prefixlen} or longer"))
    elif (1 << (prefix.max_prefixlen - size if size <= prefix.max_prefixlen else 0)) < LEAST_HOSTS:
        what = f"a block of /{size} has no address for a pod"
        problems.append(Problem(f"{path}.blockSize", what, f"/{prefix.max_prefixlen - 3} or shorter"))
    if prefix.is_multicast or prefix.is_loopback or prefix.is_link_local:
        problems.append(Problem(f"{path}.cidr", f"{prefix} is no prefix for pods"))
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


IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


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


def cluster_problems(
    networks: Mapping[str, Network], nodes: Mapping[str, Node], routes: Iterable[str] = ()
) -> list[tuple[str, Problem]]:
    """Problems between documents, each with the network's name: pools over pools, nodes, or host routes.

    ``routes``: prefixes that this host reaches otherwise, the default route excepted."""
    found: list[tuple[str, Problem]] = []
    pools = [
        (name, number, ipaddress.ip_network(pool.cidr))
        for name, network in sorted(networks.items())
        for number, pool in enumerate(network.spec.pools)
    ]
    taken = [
        (ipaddress.ip_interface(a).ip, f"node {n.name}") for n in nodes.values() for a in n.spec.addresses
    ]
    for position, (name, number, prefix) in enumerate(pools):
        path = f"spec.pools[{number}].cidr"
        for other, _, earlier in pools[:position]:
            if other != name and prefix.overlaps(earlier):
                found.append((name, Problem(path, f"{prefix} overlaps pool {earlier} of network {other}")))
        found += [
            (name, Problem(path, f"{prefix} holds {address}, the address of {who}", "choose another pool"))
            for address, who in taken
            if address in prefix
        ]
        found += [
            (name, Problem(path, f"{prefix} overlaps this host's route {route}", "choose another pool"))
            for route in _overlapping(prefix, routes)
        ]
    return found


def _overlapping(prefix: IpNetwork, routes: Iterable[str]) -> Sequence[str]:
    parsed = ((text, ipaddress.ip_network(text)) for text in routes)
    return [text for text, route in parsed if route.prefixlen and route.overlaps(prefix)]

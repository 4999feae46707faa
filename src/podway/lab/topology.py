"""What a lab consists of, and every address and route of it. Pure.

Numbering within a segment: nodes and hosts from the first address upwards in the order they are
written, routers from the top downwards.
"""

from __future__ import annotations

import ipaddress
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec

from podway.model.bgp_specs import DEFAULT_AS
from podway.model.resources import PRESETS

Role = Literal["node", "router", "host"]
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

LAN = ("192.0.2.0/24", "fd00:192:0:2::/64")
WAN = ("198.51.100.0/24", "2001:db8:51::/64")
POOLS = ("10.244.0.0/16", "fd00:10:244::/48")
NODES, PODS = 3, 2
MTU = 1500
PRESET = "flannel-host-gw"
CROWD = 50  # nodes; of more, all with all by BGP, the signs of life alone are much
ROUTER_TOP = 0xFFFE  # an IPv6 router's interface identifier: above any node of a lab


class Weather(msgspec.Struct, frozen=True, kw_only=True):
    """What befalls packets, each way: ``delay`` in milliseconds (netem), ``loss`` in percent (nftables)."""

    delay: float = 0.0
    loss: float = 0.0


FAIR = Weather()


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """A bridge: one prefix per family at most, and the MTU of what is plugged in.

    ``weather``: of every packet that passes the segment, once."""

    name: str
    cidrs: tuple[str, ...]
    mtu: int = MTU
    weather: Weather = FAIR


class Port(msgspec.Struct, frozen=True, kw_only=True):
    """A machine's link into a segment; ``addresses`` carry the prefix length."""

    segment: str
    link: str
    mtu: int
    addresses: tuple[str, ...]
    weather: Weather = FAIR


class Hop(msgspec.Struct, frozen=True, kw_only=True):
    """A route: ``dst`` is a prefix, ``via`` a router's address."""

    dst: str
    via: str


class Bgp(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """What a router or host speaks by its FRR: its AS, the nodes' own, whether it reflects routes between
    them (RFC 4456; then both are one AS), and whether it watches them by BFD."""

    as_number: int
    nodes_as: int = DEFAULT_AS
    reflector: bool = False
    bfd: bool = False


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """A network namespace with ports: a node with its pods, a router, or a host that knows no pods."""

    name: str
    role: Role
    ports: tuple[Port, ...]
    routes: tuple[Hop, ...] = ()
    pods: tuple[str, ...] = ()
    bgp: Bgp | None = None


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """A machine as it is written: which segments, before anything is numbered. ``mtu`` 0: the segment's."""

    name: str
    role: Role
    segments: tuple[str, ...]
    mtu: int = 0
    weather: Weather = FAIR
    pods: tuple[str, ...] = ()
    bgp: Bgp | None = None


class Topology(msgspec.Struct, frozen=True, kw_only=True):
    """A whole lab. ``documents`` are what is applied to its store.

    Pods attach to the first Network, but those of ``attached`` (pod → network). ``etcd``: the host that runs
    the store of all, "" = a file."""

    segments: tuple[Segment, ...]
    machines: tuple[Machine, ...]
    documents: tuple[dict[str, Any], ...]
    attached: dict[str, str] = {}
    etcd: str = ""

    def of(self, role: Role) -> tuple[Machine, ...]:
        """All machines of a role, in order."""
        return tuple(machine for machine in self.machines if machine.role == role)

    @property
    def networks(self) -> tuple[str, ...]:
        """The names of its Networks, in order."""
        return tuple(str(one["metadata"]["name"]) for one in self.documents if one["kind"] == "Network")

    def network_of(self, pod: str) -> str:
        """The network that a pod attaches to."""
        return self.attached.get(pod, self.networks[0])

    def machine(self, name: str) -> Machine:
        """The machine of a name. Raises KeyError."""
        for machine in self.machines:
            if machine.name == name:
                return machine
        raise KeyError(name)

    def home(self, pod: str) -> str:
        """The node of a pod. Raises KeyError."""
        for machine in self.machines:
            if pod in machine.pods:
                return machine.name
        raise KeyError(pod)


def pod_names(node: str, count: int) -> tuple[str, ...]:
    """NODE-1, NODE-2, …"""
    return tuple(f"{node}-{number}" for number in range(1, count + 1))


def network_document(preset: str) -> dict[str, Any]:
    """The Network of a lab that declares none: dual stack, by preset."""
    return {
        "apiVersion": "podway.dev/v1",
        "kind": "Network",
        "metadata": {"name": "pods"},
        "spec": {"preset": preset, "pools": [{"cidr": cidr} for cidr in POOLS]},
    }


def _calm(nodes: int, preset: str) -> tuple[dict[str, Any], ...]:
    """What keeps many nodes' BIRDs from taking the whole machine: rarer signs of life in a large mesh.

    Two sessions for each pair of nodes, both ends of each on this machine: at a keepalive every 3 s a
    hundred nodes keep two cores busy with nothing else."""
    if PRESETS[preset][1] != "bgp" or nodes <= CROWD:
        return ()
    spec = {"hold": 90, "keepalive": 30}
    meta = {"name": "default"}
    return ({"apiVersion": "podway.dev/v1", "kind": "BGPConfiguration", "metadata": meta, "spec": spec},)


def default(nodes: int = NODES, pods: int = PODS, preset: str = PRESET) -> Topology:
    """N nodes on one LAN; a router, and beyond it a host that knows nothing of pods."""
    segments = (Segment(name="lan", cidrs=LAN), Segment(name="wan", cidrs=WAN))
    names = [f"node{number}" for number in range(1, nodes + 1)]
    wishes = [Wish(name=name, role="node", segments=("lan",), pods=pod_names(name, pods)) for name in names]
    wishes.append(Wish(name="router", role="router", segments=("lan", "wan")))
    wishes.append(Wish(name="internet", role="host", segments=("wan",)))
    return build(segments, tuple(wishes), (network_document(preset), *_calm(nodes, preset)))


def build(
    segments: tuple[Segment, ...],
    wishes: tuple[Wish, ...],
    documents: tuple[dict[str, Any], ...],
    attached: Mapping[str, str] | None = None,
) -> Topology:
    """Number every port and lay the routes. Raises ValueError when a segment has too few addresses."""
    by_name = {segment.name: segment for segment in segments}
    numbers = {name: _numbers(segment, wishes) for name, segment in by_name.items()}
    ports = {wish.name: _ports(wish, by_name, numbers) for wish in wishes}
    machines = tuple(
        Machine(
            name=wish.name,
            role=wish.role,
            ports=ports[wish.name],
            routes=tuple(_routes(wish, wishes, by_name, ports)),
            pods=wish.pods,
            bgp=wish.bgp,
        )
        for wish in wishes
    )
    return Topology(segments=segments, machines=machines, documents=documents, attached=dict(attached or {}))


def _numbers(segment: Segment, wishes: tuple[Wish, ...]) -> dict[str, tuple[str, ...]]:
    """Machine → its addresses in a segment."""
    members = [wish for wish in wishes if segment.name in wish.segments]
    inner = [wish.name for wish in members if wish.role != "router"]
    routers = [wish.name for wish in members if wish.role == "router"]
    found: dict[str, list[str]] = {wish.name: [] for wish in members}
    for cidr in segment.cidrs:
        prefix = ipaddress.ip_network(cidr)
        room = prefix.num_addresses - 2
        if len(members) > room:
            raise ValueError(f"{prefix} has {room} addresses for {len(members)} machines")
        top = min(prefix.num_addresses - 2, ROUTER_TOP)
        for number, name in enumerate(inner, 1):
            found[name].append(f"{prefix[number]}/{prefix.prefixlen}")
        for number, name in enumerate(routers):
            found[name].append(f"{prefix[top - number]}/{prefix.prefixlen}")
    return {name: tuple(addresses) for name, addresses in found.items()}


def _ports(
    wish: Wish, segments: Mapping[str, Segment], numbers: Mapping[str, Mapping[str, tuple[str, ...]]]
) -> tuple[Port, ...]:
    return tuple(
        Port(
            segment=name,
            link=f"eth{number}",
            mtu=wish.mtu or segments[name].mtu,
            addresses=numbers[name][wish.name],
            weather=wish.weather,
        )
        for number, name in enumerate(wish.segments)
    )


def _routes(
    wish: Wish,
    wishes: tuple[Wish, ...],
    segments: Mapping[str, Segment],
    ports: Mapping[str, tuple[Port, ...]],
) -> Iterator[Hop]:
    """To every segment that isn't its own by the nearest router; a node's default by its first router."""
    routers = tuple(other for other in wishes if other.role == "router")
    first_hops = _first_hops(wish, routers)
    for name, (router, shared) in first_hops.items():
        for cidr in segments[name].cidrs:
            yield from _hop(cidr, router, shared, ports)
    if wish.role == "node" and first_hops:
        router, shared = next(iter(first_hops.values()))
        for dst in ("0.0.0.0/0", "::/0"):
            yield from _hop(dst, router, shared, ports)


def _hop(dst: str, router: str, shared: str, ports: Mapping[str, tuple[Port, ...]]) -> Iterator[Hop]:
    version = ipaddress.ip_network(dst).version
    for port in ports[router]:
        for address in port.addresses if port.segment == shared else ():
            via = ipaddress.ip_interface(address)
            if via.version == version:
                yield Hop(dst=dst, via=str(via.ip))


def _first_hops(wish: Wish, routers: tuple[Wish, ...]) -> dict[str, tuple[str, str]]:
    """Far segment → (first router, segment shared with it), by breadth-first search."""
    found: dict[str, tuple[str, str]] = {}
    queue: deque[tuple[str, tuple[str, str] | None]] = deque((name, None) for name in wish.segments)
    seen = set(wish.segments)
    while queue:
        segment, first = queue.popleft()
        for router in routers:
            if router.name == wish.name or segment not in router.segments:
                continue
            for beyond in router.segments:
                if beyond not in seen:
                    seen.add(beyond)
                    found[beyond] = first or (router.name, segment)
                    queue.append((beyond, found[beyond]))
    return found


def segments_between(topology: Topology, first: str, last: str) -> tuple[str, ...]:
    """Segments and routers that a packet passes from one machine to another, ends not included."""
    machines = {machine.name: machine for machine in topology.machines}
    queue: deque[tuple[str, ...]] = deque([(first,)])
    seen = {first}
    while queue:
        way = queue.popleft()
        for port in machines[way[-1]].ports:
            for other in topology.machines:
                if other.name in seen or port.segment not in [one.segment for one in other.ports]:
                    continue
                if other.name == last:
                    return (*way[1:], port.segment)
                if other.role == "router":
                    seen.add(other.name)
                    queue.append((*way, port.segment, other.name))
    return ()


def joined(topology: Topology, wish: Wish, attached: Mapping[str, str]) -> Topology:
    """With one machine more, at the lowest free address of its segment; nobody else's changes.

    Raises ValueError when the segment is full."""
    segment = next(one for one in topology.segments if one.name in wish.segments)
    taken = {a for machine in topology.machines for port in machine.ports for a in port.addresses}
    addresses = []
    for cidr in segment.cidrs:
        prefix = ipaddress.ip_network(cidr)
        numbers = range(1, min(prefix.num_addresses - 1, ROUTER_TOP))
        free = (f"{prefix[number]}/{prefix.prefixlen}" for number in numbers)
        address = next((one for one in free if one not in taken), "")
        if not address:
            raise ValueError(f"{prefix} has no free address")
        addresses.append(address)
    ports = {machine.name: machine.ports for machine in topology.machines}
    routers = tuple(
        Wish(name=router.name, role="router", segments=tuple(port.segment for port in router.ports))
        for router in topology.of("router")
    )
    segments = {one.name: one for one in topology.segments}
    own = _ports(wish, segments, {segment.name: {wish.name: tuple(addresses)}})
    routes = tuple(_routes(wish, routers, segments, ports))
    machine = Machine(name=wish.name, role=wish.role, ports=own, routes=routes, pods=wish.pods)
    machines, whole = (*topology.machines, machine), topology.attached | dict(attached)
    return msgspec.structs.replace(topology, machines=machines, attached=whole)


def left(topology: Topology, name: str) -> Topology:
    """Without one machine."""
    machines = tuple(machine for machine in topology.machines if machine.name != name)
    return msgspec.structs.replace(topology, machines=machines)

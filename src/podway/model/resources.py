"""What people declare, and what nodes claim: Network, Node, Block; and the local Endpoint.

Spec types are what a document's ``spec`` decodes to (camelCase on the wire, strict on input).
``Snapshot`` is everything of the cluster that the planner of one node looks at.
"""

from __future__ import annotations

from typing import Literal

import msgspec

API_VERSION = "podway.dev/v1"

Attach = Literal["bridge", "routed"]
Transport = Literal["none", "host-gw"]

#: preset name → (attach, transport)
PRESETS: dict[str, tuple[Attach, Transport]] = {
    "docker": ("bridge", "none"),
    "flannel-host-gw": ("bridge", "host-gw"),
}

#: attach kind → (IPv4, IPv6) block prefix length; DESIGN "Blocks".
BLOCK_SIZES: dict[str, tuple[int, int]] = {"bridge": (24, 64), "routed": (26, 122)}


class _Spec(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Base of everything that is written in a document."""


class Pool(_Spec, frozen=True, kw_only=True):
    """Addresses of a network. ``block_size`` is a prefix length (default by attach and family)."""

    cidr: str
    block_size: int | None = None
    reserved: tuple[str, ...] = ()  # addresses, prefixes or "a-b" ranges that no pod gets


class BridgeSpec(_Spec, frozen=True, kw_only=True):
    """How the bridge of ``attach: bridge`` is made. ``name`` "" means pw- and the network's name.

    ``adopt``: use an existing bridge of that name that Podway did not make.
    """

    name: str = ""
    hairpin: bool = True
    isolated: bool = False
    promisc: bool = False
    adopt: bool = False


class NetworkSpec(_Spec, frozen=True, kw_only=True):
    """A network: ``preset``, or ``attach`` and ``transport``; then its pools.

    ``mtu`` 0 is "auto" in documents: the smallest uplink MTU less the transport's overhead.
    ``cooldown`` seconds keep a released address out of use.
    """

    pools: tuple[Pool, ...]
    preset: str = ""
    attach: Attach = "bridge"
    transport: Transport = "none"
    masquerade: bool = True
    mtu: int | Literal["auto"] = "auto"
    spoof_protection: bool = True
    cooldown: int = 30
    bridge: BridgeSpec = BridgeSpec()


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """A Network document. Preset and defaults are resolved by ``documents.resolve``."""

    name: str
    spec: NetworkSpec


class NodeSpec(_Spec, frozen=True, kw_only=True):
    """A node: its addresses with prefix length; the first of each family is the next hop to its blocks."""

    addresses: tuple[str, ...] = ()


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A Node document."""

    name: str
    spec: NodeSpec


class BlockSpec(_Spec, frozen=True, kw_only=True):
    """Who owns a block, and for which network and attachment kind."""

    network: str
    node: str
    attach: Attach


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """A claimed block; its name in the store is its CIDR."""

    cidr: str
    spec: BlockSpec


class PortMap(msgspec.Struct, frozen=True, kw_only=True):
    """A published port. ``host_ip`` "" is every address of the node, of both families."""

    host_port: int
    container_port: int
    protocol: Literal["tcp", "udp", "sctp"] = "tcp"
    host_ip: str = ""


class Bandwidth(msgspec.Struct, frozen=True, kw_only=True):
    """Rates in bits/s, bursts in bits (the CNI convention), 0 = unlimited. Ingress is to the pod."""

    ingress_rate: int = 0
    ingress_burst: int = 0
    egress_rate: int = 0
    egress_burst: int = 0


class PodRoute(msgspec.Struct, frozen=True, kw_only=True):
    """A route inside the pod; ``gw`` "" is on-link through the interface."""

    dst: str
    gw: str = ""


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One interface of one pod, as the node's local database keeps it.

    ``addresses`` carry the prefix length that the pod sees; ``gateways`` one address per family
    or empty. ``namespace`` is the path that the runtime gave, ``namespace_id`` "dev:inode" of it.
    """

    container: str
    ifname: str
    network: str
    addresses: tuple[str, ...]
    gateways: tuple[str, ...] = ()
    routes: tuple[PodRoute, ...] = ()
    mac: str = ""
    host_link: str = ""
    bridge: str = ""  # what host_link is a port of; "" = routed
    mtu: int = 0
    namespace: str = ""
    namespace_id: str = ""
    boot_id: str = ""
    ports: tuple[PortMap, ...] = ()
    bandwidth: Bandwidth = Bandwidth()
    pod: str = ""  # namespace/name as the runtime says, for people

    @property
    def id(self) -> str:
        """Unique on a node: CONTAINER/IFNAME."""
        return f"{self.container}/{self.ifname}"


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The cluster as one node sees it. ``synced`` False: nothing may be removed on its account."""

    networks: dict[str, Network] = {}
    nodes: dict[str, Node] = {}
    blocks: dict[str, Block] = {}
    synced: bool = False


class Uplink(msgspec.Struct, frozen=True, kw_only=True):
    """A link of the node that is not Podway's, with its addresses (with prefix length)."""

    name: str
    mtu: int
    addresses: tuple[str, ...] = ()
    accept_ra: bool = False  # it learns routes from router advertisements


class NodeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the planner may know of the node: who it is and which uplinks it has."""

    name: str
    uplinks: tuple[Uplink, ...] = ()  # the one with the default route first

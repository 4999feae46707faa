"""What people declare, and what nodes claim: Network, Node, Block; and the local Endpoint.

Spec types are what a document's ``spec`` decodes to (camelCase on the wire, strict on input).
``Snapshot`` is everything of the cluster that the planner of one node looks at.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from podway.model.bgp_specs import (
    BGPAdvertisementSpec,
    BGPConfigurationSpec,
    BGPFilterSpec,
    BGPPeerSpec,
    BgpSpec,
    BGPTopologySpec,
)
from podway.model.gate import Gate
from podway.model.lending import Borrow
from podway.model.objects import family_of
from podway.model.spec import Spec
from podway.model.tunnels import IpipSpec, VxlanSpec, WireguardSpec

API_VERSION = "podway.dev/v1"

Attach = Literal["bridge", "routed"]
Transport = Literal["none", "host-gw", "vxlan", "ipip", "bgp", "wireguard"]

#: preset name → (attach, transport)
PRESETS: dict[str, tuple[Attach, Transport]] = {
    "docker": ("bridge", "none"),
    "flannel-host-gw": ("bridge", "host-gw"),
    "flannel-vxlan": ("bridge", "vxlan"),
    "flannel-wireguard": ("bridge", "wireguard"),
    "calico-vxlan": ("routed", "vxlan"),
    "calico-ipip": ("routed", "ipip"),
    "calico-crosssubnet": ("routed", "ipip"),
    "calico-bgp": ("routed", "bgp"),
    "calico-wireguard": ("routed", "wireguard"),
}

#: presets that send without a tunnel to peers on the same segment
DIRECT_PRESETS = frozenset({"calico-crosssubnet"})

#: attach kind → (IPv4, IPv6) block prefix length; DESIGN "Blocks".
BLOCK_SIZES: dict[str, tuple[int, int]] = {"bridge": (24, 64), "routed": (26, 122)}


class Pool(Spec, frozen=True, kw_only=True):
    """Addresses of a network."""

    cidr: Annotated[str, Meta(description="The prefix that addresses are taken from.")]
    block_size: Annotated[
        int | None,
        Meta(
            description="Prefix length of the blocks that nodes claim: bridge 24 and 64, routed 26 and 122."
        ),
    ] = None
    reserved: Annotated[
        tuple[str, ...], Meta(description="Addresses, prefixes or a-b ranges that no pod gets.")
    ] = ()


class BridgeSpec(Spec, frozen=True, kw_only=True):
    """How the bridge of ``attach: bridge`` is made."""

    name: Annotated[str, Meta(description="Name of the bridge; pw- and the network's name if empty.")] = ""
    hairpin: Annotated[
        bool, Meta(description="A pod may reach itself through the bridge (published ports need it).")
    ] = True
    isolated: Annotated[
        bool, Meta(description="Pods of one node can't reach each other over the bridge.")
    ] = False
    promisc: Annotated[bool, Meta(description="The bridge takes all packets, as a monitor wants.")] = False
    adopt: Annotated[
        bool, Meta(description="Use an existing bridge of that name that Podway did not make.")
    ] = False


class FlannelSpec(Spec, frozen=True, kw_only=True):
    """Where the Flannel of ``interop: flannel-etcd`` keeps its leases."""

    etcd: Annotated[
        str,
        Meta(description="Flannel's etcd and its --etcd-prefix: etcd:http://HOST:2379/coreos.com/network"),
    ] = ""


class NetworkSpec(Spec, frozen=True, kw_only=True):
    """A network: ``preset``, or ``attach`` and ``transport``; then its pools."""

    pools: Annotated[
        tuple[Pool, ...],
        Meta(description="Prefixes for pods; one of each IP family makes a network dual stack."),
    ]
    preset: Annotated[
        str,
        Meta(description=f"attach and transport at once: {', '.join(PRESETS)}."),
    ] = ""
    attach: Annotated[Attach, Meta(description="How a pod is attached to its node.")] = "bridge"
    transport: Annotated[Transport, Meta(description="How nodes carry each other's pods.")] = "none"
    masquerade: Annotated[
        bool, Meta(description="Packets that leave the cluster get the node's address.")
    ] = True
    mtu: Annotated[
        int | Literal["auto"],
        Meta(description="MTU of pods; auto is the smallest uplink's, less the transport's overhead."),
    ] = "auto"
    spoof_protection: Annotated[
        bool, Meta(description="No pod sends from an address or MAC that isn't its own.")
    ] = True
    firewall: Annotated[
        Literal["leave", "manage"],
        Meta(description="manage: pods pass, whatever the host's firewall drops; leave: it isn't touched."),
    ] = "leave"
    cooldown: Annotated[int, Meta(description="Seconds before a released address is used again.")] = 30
    bridge: Annotated[BridgeSpec, Meta(description="Options of attach bridge.")] = BridgeSpec()
    vxlan: Annotated[VxlanSpec, Meta(description="Options of transport vxlan.")] = VxlanSpec()
    ipip: Annotated[IpipSpec, Meta(description="Options of transport ipip.")] = IpipSpec()
    wireguard: Annotated[WireguardSpec, Meta(description="Options of transport wireguard.")] = WireguardSpec()
    interop: Annotated[
        Literal["", "flannel-etcd"],
        Meta(description="flannel-etcd: nodes of Flannel's and Podway's carry each other's pods."),
    ] = ""
    flannel: Annotated[FlannelSpec, Meta(description="Options of interop flannel-etcd.")] = FlannelSpec()

    @property
    def direct_within_subnet(self) -> bool:
        """Whether peers that are proved to be on the same segment are sent without the network's tunnel."""
        options: dict[Transport, VxlanSpec | IpipSpec | WireguardSpec] = {
            "vxlan": self.vxlan,
            "ipip": self.ipip,
            "wireguard": self.wireguard,
        }
        return self.transport in options and options[self.transport].direct_within_subnet


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """A Network document. Preset and defaults are resolved by ``documents.resolve``."""

    name: str
    spec: NetworkSpec


class DetectSpec(Spec, frozen=True, kw_only=True):
    """How a node finds its own address, when none is declared. All that is given must hold."""

    interfaces: Annotated[
        tuple[str, ...], Meta(description="Links, by name or regular expression, the best first.")
    ] = ()
    cidrs: Annotated[tuple[str, ...], Meta(description="Prefixes that it may be in, the best first.")] = ()
    can_reach: Annotated[
        str, Meta(description="The address that the machine would send from to reach this one.")
    ] = ""
    skip: Annotated[
        tuple[str, ...],
        Meta(description="Links never to use, besides those of container runtimes and hypervisors."),
    ] = ()


class NodeSpec(Spec, frozen=True, kw_only=True):
    """A node of the cluster."""

    addresses: Annotated[
        tuple[str, ...],
        Meta(description="With prefix length; empty: as found. The first of a family is its next hop."),
    ] = ()
    detect: Annotated[
        DetectSpec, Meta(description="Which of the machine's addresses to find, when none is given here.")
    ] = DetectSpec()
    labels: Annotated[dict[str, str], Meta(description="What selectors look at, such as rack: a.")] = {}
    drain: Annotated[
        bool, Meta(description="BGP peers are asked to prefer other nodes, before this one is taken down.")
    ] = False


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """The MTU of a network's pods on a node, in bytes: what the node is to reach under ``generation`` (a text
    of the network's settings), and the largest packet that its pods send."""

    generation: str
    target: int
    sends: int


class BgpResource(msgspec.Struct, frozen=True, kw_only=True):
    """A BGPConfiguration, BGPPeer, BGPFilter or BGPAdvertisement document."""

    kind: str
    name: str
    spec: BgpSpec


class Bgp(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is declared of BGP, by name."""

    configuration: BGPConfigurationSpec = BGPConfigurationSpec()
    peers: dict[str, BGPPeerSpec] = {}
    filters: dict[str, BGPFilterSpec] = {}
    advertisements: dict[str, BGPAdvertisementSpec] = {}
    topology: BGPTopologySpec | None = None  # chosen for all nodes; None: each chooses the same by itself


class Paths(msgspec.Struct, frozen=True, kw_only=True):
    """How a node carries one network, as texts of ``plan.way``: what others may send it, what it sends.

    ``mtu`` is what its pods take, 0 when it doesn't say. ``keys``: (text of a way, the node's public key)."""

    accepts: tuple[str, ...] = ()
    sends: tuple[str, ...] = ()
    mtu: int = 0
    sizes: Sizes | None = None
    keys: tuple[tuple[str, str], ...] = ()


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """A machine that acts as a node: a number in its state directory, its boot id, its host name."""

    state: str
    boot: str
    host: str = ""


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """A machine and when it asked or was refused, in seconds since 1970 of whoever wrote it."""

    machine: Machine
    since: float


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Which machine holds a node's name, which asks for it, and which was refused; see ``plan.identity``."""

    machine: Machine | None = None
    claimant: Claim | None = None
    refused: Claim | None = None

    @property
    def refused_machine(self) -> Machine | None:
        """The machine that was refused last."""
        return self.refused.machine if self.refused is not None else None


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A Node document, and what its agent says: its ways (network → Paths), and its uplinks' MACs."""

    name: str
    spec: NodeSpec
    declared: bool = False  # whether its addresses were written down
    paths: dict[str, Paths] = {}
    macs: tuple[str, ...] = ()
    sessions: int = 0  # generation of the BGPTopology whose new sessions are all it needs

    def address(self, family: int) -> str:
        """The first of its addresses of family 4 or 6, where its peers send to; "" when it has none."""
        return next((a.partition("/")[0] for a in self.spec.addresses if family_of(a) == family), "")


class BlockSpec(Spec, frozen=True, kw_only=True):
    """Who owns a block, and for which network and attachment kind."""

    network: Annotated[str, Meta(description="Whose pool it was cut from.")]
    node: Annotated[str, Meta(description="Who claimed it.")]
    attach: Annotated[Attach, Meta(description="How its pods are attached.")]


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """A claimed block; its name in the store is its CIDR. ``offers``: see ``model.lending``.

    ``borrowed``: one address of another's block, planned like a block of the node that has borrowed it."""

    cidr: str
    spec: BlockSpec
    offers: tuple[str, ...] = ()
    borrowed: bool = False


class ForeignBlock(msgspec.Struct, frozen=True, kw_only=True):
    """A block that a node of somebody else's (Flannel's) holds, and how to reach it."""

    cidr: str
    network: str
    address: str  # its node's, of the family of ``cidr``
    mac: str = ""  # its VTEP's; "" with host-gw


class PortMap(msgspec.Struct, frozen=True, kw_only=True):
    """A published port. ``host_ip`` "" is every address of the node, of both families; "0.0.0.0" and "::"
    are every address of one."""

    host_port: int
    container_port: int
    protocol: Literal["tcp", "udp", "sctp"] = "tcp"
    host_ip: str = ""

    def meets(self, other: PortMap) -> bool:
        """Whether there is an address and port of the node that both would take."""
        if (self.host_port, self.protocol) != (other.host_port, other.protocol):
            return False
        mine, theirs = self.host_ip, other.host_ip
        if not mine or not theirs or mine == theirs:
            return True
        return (":" in mine) == (":" in theirs) and bool({mine, theirs} & {"0.0.0.0", "::"})


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
    metric: int = 0  # of its routes, beyond the kernel's default: 0 is the pod's first interface
    mac: str = ""
    host_link: str = ""
    bridge: str = ""  # what host_link is a port of; "" = routed
    mtu: int = 0
    route_mtu: int = 0  # of its routes, while the network's MTU changes; 0 = none
    own_mtu: bool = False  # it was asked for, and doesn't follow the network's
    namespace: str = ""
    namespace_id: str = ""
    boot_id: str = ""
    ports: tuple[PortMap, ...] = ()
    bandwidth: Bandwidth = Bandwidth()
    pod: str = ""  # namespace/name as the runtime says, for people
    configuration: str = ""  # name of the CNI configuration that it came by; "" = not known any more

    @property
    def id(self) -> str:
        """Unique on a node: CONTAINER/IFNAME."""
        return f"{self.container}/{self.ifname}"


class Unreadable(msgspec.Struct, frozen=True):
    """A stored object that this version can't read, or that can't be right, and why."""

    kind: str
    name: str
    why: str


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The cluster as one node sees it. ``synced`` False: nothing may be removed on its account.

    ``unreadable``: stored objects that are here with their last good value, or not at all."""

    networks: dict[str, Network] = {}
    nodes: dict[str, Node] = {}
    blocks: dict[str, Block] = {}
    borrows: dict[str, Borrow] = {}
    bgp: Bgp = Bgp()
    unreadable: tuple[Unreadable, ...] = ()
    foreigns: dict[str, ForeignBlock] = {}
    store: str = ""  # which one it was listed from
    synced: bool = False


class Uplink(msgspec.Struct, frozen=True, kw_only=True):
    """A link of the node that is not Podway's, with its addresses (with prefix length)."""

    name: str
    mtu: int
    addresses: tuple[str, ...] = ()
    accept_ra: bool = False  # it learns routes from router advertisements
    mac: str = ""


class NodeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the planner may know of the node: who it is, which uplinks and which addresses it has.

    ``addresses``: that of each family first which peers send to, then the others; () when it has none,
    and ``trouble`` says why. ``others``: addresses on links that are no uplinks."""

    name: str
    uplinks: tuple[Uplink, ...] = ()  # the one with the default route first
    addresses: tuple[str, ...] = ()
    trouble: str = ""
    others: tuple[str, ...] = ()
    keys: dict[str, str] = {}  # text of a way → this node's public key there
    towards: dict[str, str] = {}  # address → the one that the machine would send from to reach it
    adopted: dict[str, tuple[str, ...]] = {}  # foreign bridge that is used → addresses on it
    gates: tuple[Gate, ...] = ()  # other software's chains that drop what is forwarded

"""What a kernel can hold, as frozen values. One type per kind of kernel object.

Every type has ``key``: the identity under which the kernel holds at most one such object in one
network namespace. Two values with one key and different fields are the same object, changed.
A field that is None means "whatever the kernel has": the differ ignores it.

Addresses are canonical text (``ipaddress`` form), prefixes always carry their length, MAC
addresses are lower case with colons, links are named, never numbered: an ifindex is a detail of
the codec.
"""

from __future__ import annotations

import hashlib
from typing import ClassVar

import msgspec

from podway.model.gate import Passage
from podway.model.links import AnyOptions
from podway.model.object import Key as Key
from podway.model.object import Object as Object
from podway.model.wireguard import WgAllowed, WgDevice, WgPeer, WireguardOptions

# Ownership marks. The route protocol is outside every number of iproute2's rt_protos.
ROUTE_PROTOCOL = 112
TABLE = "podway"  # nftables table name, in the families that are used
ALIAS_PREFIX = "podway:"  # IFLA_IFALIAS of every link that Podway made

MAIN_TABLE = 254  # RT_TABLE_MAIN, linux/rtnetlink.h
LOCAL_TABLE = 255  # RT_TABLE_LOCAL: the kernel's own


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """The other end of a veth, used only when the pair is created.

    ``namespace`` is a symbolic name; the caller of ``apply`` maps it to an open descriptor
    ("" = the same namespace).
    """

    name: str
    mac: str | None = None
    mtu: int | None = None
    namespace: str = ""


class PortVlan(msgspec.Struct, frozen=True):
    """A VLAN of a bridge's port. ``pvid``: what has no tag is in it; ``untagged``: it leaves without."""

    vid: int
    pvid: bool = False
    untagged: bool = False


class BridgePort(msgspec.Struct, frozen=True, kw_only=True):
    """IFLA_BRPORT_* of a link enslaved to a bridge. ``vlans``, by number, are seen where a bridge filters."""

    hairpin: bool | None = None
    isolated: bool | None = None
    learning: bool | None = None
    vlans: tuple[PortVlan, ...] | None = None


class BridgeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """IFLA_BR_* of a bridge."""

    stp: bool | None = None
    mcast_snooping: bool | None = None
    vlan_filtering: bool | None = None


class VxlanOptions(msgspec.Struct, frozen=True, kw_only=True):
    """IFLA_VXLAN_* of a tunnel device, fixed when it is made. ``local`` is the outer source address."""

    vni: int
    port: int
    local: str
    learning: bool = False
    checksum: bool = False  # outer UDP checksum over IPv4; over IPv6 there always is one


class IpTunnelOptions(msgspec.Struct, frozen=True, kw_only=True):
    """IFLA_IPTUN_* of an ipip or ip6tnl device, fixed when it is made. ``local`` is the outer source address.

    ``external``: each route says where its packets go (``Route.outer``), and the device takes any node's."""

    local: str = ""
    external: bool = False


class VrfOptions(msgspec.Struct, frozen=True, kw_only=True):
    """IFLA_VRF_* of a VRF device: the routing table of the links in it."""

    table: int


class Link(Object, frozen=True, kw_only=True):
    """A network device. ``kind`` is IFLA_INFO_KIND ("" for hardware); ``group`` is IFLA_GROUP."""

    kind_name: ClassVar[str] = "link"

    name: str
    kind: str
    alias: str | None = None
    mac: str | None = None
    mtu: int | None = None
    up: bool | None = True
    master: str | None = None  # the bridge or VRF; "" = must have none
    promisc: bool | None = None
    allmulti: bool | None = None
    group: int | None = None
    txqlen: int | None = None
    link_local: bool | None = None  # whether the kernel gives it an fe80:: address by itself
    bridge: BridgeOptions | None = None
    port: BridgePort | None = None
    vxlan: VxlanOptions | None = None
    iptunnel: IpTunnelOptions | None = None
    vrf: VrfOptions | None = None
    options: AnyOptions | None = None
    wireguard: WireguardOptions | None = None  # for those who look, never compared: see WgDevice
    peer: Peer | None = None  # creation only, never compared
    adopted: bool = False  # stands already and stays foreign: changed, never made or removed

    @property
    def key(self) -> Key:
        return ("link", self.name)


class Address(Object, frozen=True, kw_only=True):
    """An address on a link. ``address`` carries the prefix length. ``nodad``: IFA_F_NODAD (IPv6)."""

    kind_name: ClassVar[str] = "address"

    link: str
    address: str
    nodad: bool = False  # creation only, never compared
    noprefixroute: bool | None = None  # IFA_F_NOPREFIXROUTE
    passing: bool | None = None  # IPv6: temporary, deprecated or found to be a duplicate
    tentative: bool | None = None  # IPv6: duplicates are being looked for, or one was found

    @property
    def key(self) -> Key:
        return ("address", self.link, self.address)


class Route(Object, frozen=True, kw_only=True):
    """A unicast or blackhole route. ``dst`` is a prefix; the default route is 0.0.0.0/0 or ::/0.

    ``type`` is RTN_* by name ("unicast", "blackhole", "unreachable", "prohibit"); ``scope`` is
    RT_SCOPE_* by name ("global", "link", "host"), ignored for IPv6. ``metric`` 0 in IPv6 is
    stored by the kernel as 1024 and decoded so. ``outer``: the node whose address a tunnel device that is
    ``external`` sends its packets to (LWTUNNEL_ENCAP_IP6).
    """

    kind_name: ClassVar[str] = "route"

    dst: str
    dev: str = ""
    via: str = ""
    table: int = MAIN_TABLE
    metric: int = 0
    type: str = "unicast"
    scope: str = "global"
    protocol: int = ROUTE_PROTOCOL
    src: str = ""
    onlink: bool = False
    mtu: int = 0
    advmss: int = 0
    outer: str = ""

    @property
    def key(self) -> Key:
        return ("route", str(self.table), self.dst, str(self.metric))


class Rule(Object, frozen=True, kw_only=True):
    """A policy routing rule. ``family`` is 4 or 6; an empty selector matches everything."""

    kind_name: ClassVar[str] = "rule"

    family: int
    priority: int
    table: int
    src: str = ""
    dst: str = ""
    iif: str = ""
    fwmark: int = 0
    fwmask: int = 0
    protocol: int = ROUTE_PROTOCOL

    @property
    def key(self) -> Key:
        return ("rule", str(self.family), str(self.priority), self.src, self.dst, self.iif, str(self.fwmark))


class Neighbour(Object, frozen=True, kw_only=True):
    """A permanent neighbour entry, or (``proxy``) an address answered for on ``link``."""

    kind_name: ClassVar[str] = "neighbour"

    link: str
    address: str
    mac: str = ""
    proxy: bool = False

    @property
    def key(self) -> Key:
        return ("neighbour", self.link, self.address, "proxy" if self.proxy else "")


class Fdb(Object, frozen=True, kw_only=True):
    """A permanent forwarding entry: of a VXLAN device (``dst`` set, NTF_SELF) or of a bridge port."""

    kind_name: ClassVar[str] = "fdb"

    link: str
    mac: str
    dst: str = ""

    @property
    def key(self) -> Key:
        return ("fdb", self.link, self.mac, self.dst)


class Qdisc(Object, frozen=True, kw_only=True):
    """A queueing discipline. Handles are "major:minor" in hex as tc prints them, or "root".

    kind "tbf": ``rate`` bits/s, ``burst`` bytes, ``limit`` bytes. kind "htb": ``default`` class
    minor. kind "ingress": parent "ffff:fff1", no options.
    """

    kind_name: ClassVar[str] = "qdisc"

    link: str
    kind: str
    parent: str = "root"
    handle: str = ""
    rate: int | None = None
    burst: int | None = None
    limit: int | None = None
    default: int | None = None

    @property
    def key(self) -> Key:
        return ("qdisc", self.link, self.parent)


class TrafficClass(Object, frozen=True, kw_only=True):
    """An HTB class: ``rate`` and ``ceil`` in bits/s, ``burst`` in bytes."""

    kind_name: ClassVar[str] = "class"

    link: str
    parent: str
    handle: str
    rate: int
    ceil: int
    burst: int

    @property
    def key(self) -> Key:
        return ("class", self.link, self.handle)


class Filter(Object, frozen=True, kw_only=True):
    """A u32 filter that matches every packet and redirects it (mirred egress) to ``redirect``."""

    kind_name: ClassVar[str] = "filter"

    link: str
    redirect: str
    parent: str = "ffff:"
    priority: int = 1

    @property
    def key(self) -> Key:
        return ("filter", self.link, self.parent, str(self.priority))


class Sysctl(Object, frozen=True, kw_only=True):
    """A value under /proc/sys. ``path`` is relative with slashes ("net/ipv4/ip_forward")."""

    kind_name: ClassVar[str] = "sysctl"

    path: str
    value: str

    @property
    def key(self) -> Key:
        return ("sysctl", self.path)


class NftSet(Object, frozen=True, kw_only=True):
    """A set, or (``data`` set) a map, in table ``podway`` of ``family``.

    ``type`` and ``data`` are nft data types ("ipv4_addr", "ifname", "ether_addr",
    "inet_service", "inet_proto"), concatenations as tuples. ``interval`` sets hold prefixes.
    """

    kind_name: ClassVar[str] = "nftset"

    family: str
    name: str
    type: tuple[str, ...]
    data: tuple[str, ...] = ()
    interval: bool = False

    @property
    def key(self) -> Key:
        return ("nftset", self.family, self.name)


class NftElement(Object, frozen=True, kw_only=True):
    """An element of a set or map: one text per part of the concatenated key and data."""

    kind_name: ClassVar[str] = "nftelement"

    family: str
    set: str
    value: tuple[str, ...]
    data: tuple[str, ...] = ()

    @property
    def key(self) -> Key:
        return ("nftelement", self.family, self.set, *self.value)


class NftRule(msgspec.Struct, frozen=True):
    """One rule: nft text and the reason that is kept in its comment (≤ 100 characters)."""

    text: str
    reason: str

    @property
    def digest(self) -> str:
        """Eight hex digits that the kernel's rule carries; an observed rule's text is "#" and its digest."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:8]


class NftChain(Object, frozen=True, kw_only=True):
    """A chain with all its rules, replaced as a whole. ``hook`` "" is a regular chain.

    ``priority`` is a number. ``policy`` is always accept: Podway drops by rule, with a reason.
    """

    kind_name: ClassVar[str] = "nftchain"

    family: str
    name: str
    rules: tuple[NftRule, ...]
    type: str = "filter"
    hook: str = ""
    priority: int = 0

    @property
    def key(self) -> Key:
        return ("nftchain", self.family, self.name)


AnyObject = (
    Link
    | Address
    | Route
    | Rule
    | Neighbour
    | Fdb
    | Qdisc
    | TrafficClass
    | Filter
    | Sysctl
    | NftSet
    | NftElement
    | NftChain
    | WgDevice
    | WgPeer
    | WgAllowed
    | Passage
)
Desired = dict[Key, AnyObject]
Actual = dict[Key, AnyObject]


class Op(msgspec.Struct, frozen=True):
    """One step from actual to desired: create (have None), change, or delete (want None)."""

    want: AnyObject | None
    have: AnyObject | None

    @property
    def key(self) -> Key:
        one = self.want if self.want is not None else self.have
        assert one is not None
        return one.key

    @property
    def verb(self) -> str:
        if self.have is None:
            return "create"
        return "delete" if self.want is None else "change"


class OpResult(msgspec.Struct, frozen=True):
    """What became of one operation: ``errno`` 0 is success; ``error`` carries the extended ack.

    ``other_end``: the ifindex of a veth's other end that was made with it, else 0."""

    op: Op
    errno: int = 0
    error: str = ""
    other_end: int = 0


def family_of(address: str) -> int:
    """4 or 6, from the text of an address or prefix."""
    return 6 if ":" in address else 4

"""What the drop-in plugins keep on a node: pieces of attachments, each what one plugin of a chain made.

A piece is journalled before the kernel is touched, and planned like everything else: ``plan/dropin`` has one
pure function for each kind of ``Want``. All that a later DEL, GC or start needs is in it.
"""

from __future__ import annotations

import msgspec

from podway.model.objects import Address, Link, PortVlan, Route, Rule
from podway.model.resources import Bandwidth, PortMap


class Path(msgspec.Struct, frozen=True, kw_only=True):
    """A route in a pod; ``gw`` "" is on-link, a number of 0 is the kernel's default.

    ``scope`` is RT_SCOPE_* by name, "" for the one that fits; ``src`` is the preferred source."""

    dst: str
    gw: str = ""
    mtu: int = 0
    advmss: int = 0
    priority: int = 0
    table: int = 0
    scope: str = ""
    src: str = ""
    onlink: bool = False  # the gateway is reached though no route says so


class Want(msgspec.Struct, frozen=True, kw_only=True):
    """Base of what one plugin made; its tag is the plugin's name."""


class BridgeDevice(Want, frozen=True, kw_only=True, tag="bridge-device"):
    """A bridge, which outlives its pods as the reference plugin's does. ``adopted``: it stood before.

    ``addresses`` are the gateways of all networks on it, with prefix length."""

    name: str
    mac: str
    mtu: int = 0
    addresses: tuple[str, ...] = ()
    promisc: bool = False
    adopted: bool = False
    vlan_filtering: bool = False


class VlanGateway(Want, frozen=True, kw_only=True, tag="bridge-vlan"):
    """The node's own link into a VLAN of a bridge, with the gateways of all networks in it. It outlives pods.

    ``port`` is its other end, the bridge's port."""

    name: str
    bridge: str
    port: str
    mac: str
    mtu: int = 0
    addresses: tuple[str, ...] = ()
    vlans: tuple[PortVlan, ...] = ()


class BridgePod(Want, frozen=True, kw_only=True, tag="bridge"):
    """A pod's veth into a bridge. ``up`` False leaves the pod's interface down and without settings."""

    bridge: str
    link: str  # the host's side
    mac: str  # the pod's
    mtu: int = 0
    routes: tuple[Path, ...] = ()
    gateways: tuple[str, ...] = ()  # what the bridge has for it, with prefix length
    hairpin: bool = False
    isolated: bool = False
    masquerade: bool = False
    mac_guard: bool = False
    dad: bool = False  # look for duplicates of its IPv6 addresses
    up: bool = True
    vlans: tuple[PortVlan, ...] = ()


class Ptp(Want, frozen=True, kw_only=True, tag="ptp"):
    """A pod's veth without a bridge; ``gateways`` (bare, one per address) are the host's side's own."""

    link: str  # the host's side
    mac: str  # the pod's
    gateways: tuple[str, ...]
    mtu: int = 0
    routes: tuple[Path, ...] = ()
    masquerade: bool = False


class Condition(msgspec.Struct, frozen=True):
    """What a packet to a published port must be like. ``what``: saddr or daddr (``value`` a prefix), or
    iifname (a link; with * at its end those that begin so)."""

    what: str
    value: str
    negated: bool = False


class Ports(Want, frozen=True, kw_only=True, tag="portmap"):
    """Published ports of a pod. ``link``: the node's, by which it is reached, "" when there is none.

    ``masked``: (pod's address, prefix) pairs: who comes from the prefix shows the node's address instead.
    ``conditions``: IP family → all of which must hold."""

    ports: tuple[PortMap, ...]
    addresses: tuple[str, ...]  # bare
    link: str = ""
    masked: tuple[tuple[str, str], ...] = ()
    conditions: dict[int, tuple[Condition, ...]] = {}


class Shaped(Want, frozen=True, kw_only=True, tag="bandwidth"):
    """Limits on a pod's veth. ``link`` is the host's side, ``mtu`` its own."""

    bandwidth: Bandwidth
    link: str = ""
    mtu: int = 0


class Tuned(Want, frozen=True, kw_only=True, tag="tuning"):
    """Settings inside a pod: (path below /proc/sys, value) pairs, and its interface's; None is left alone.

    ``kind`` is the interface's; ``before``: what it was, as far as it was changed. ``found``: how the sysctls
    were, those that there are."""

    kind: str = ""
    sysctls: tuple[tuple[str, str], ...] = ()
    mac: str | None = None
    mtu: int | None = None
    txqlen: int | None = None
    promisc: bool | None = None
    allmulti: bool | None = None
    before: Link | None = None
    found: tuple[tuple[str, str], ...] = ()


class Passed(Want, frozen=True, kw_only=True, tag="firewall"):
    """A pod that passes the host's firewalls: what it sends, and the answers. ``addresses`` are bare.

    ``bridge``, where new connections to it are held back: from other such bridges ("same-bridge"), from pods
    of its own too ("isolated"). ``first``: the administrator's chain of iptables that is asked before."""

    addresses: tuple[str, ...]
    bridge: str = ""
    ingress: str = "open"
    first: str = ""


class Moved(Want, frozen=True, kw_only=True):
    """Base of what takes routes of a pod's interface out of the main table: ``routes`` are where they are
    now, ``found`` as they were."""

    routes: tuple[Route, ...] = ()
    found: tuple[Route, ...] = ()


class SourceRouted(Moved, frozen=True, kw_only=True, tag="sbr"):
    """Rules inside a pod: what is sent from an address looks up that address's own table.

    ``hops``: (address with prefix length, gateway or "") pairs. ``table``: the one that all look up, 0: one
    each, with ``routes`` in it."""

    hops: tuple[tuple[str, str], ...]
    table: int = 0
    rules: tuple[Rule, ...] = ()


class InVrf(Moved, frozen=True, kw_only=True, tag="vrf"):
    """A pod's interface in a VRF device of the pod's. ``made``: the device is made for it.

    ``kind`` is the interface's; ``addresses`` are those that it loses when its master changes."""

    name: str
    table: int = 0
    made: bool = False
    kind: str = ""
    addresses: tuple[Address, ...] = ()


class Leased(Want, frozen=True, kw_only=True, tag="dhcp"):
    """An address that a DHCP server has lent. Times are seconds since boot; ``asked_at`` is that of the last
    question. ``options`` go with each, ``mac`` is the interface's. ``broadcast``: it hears no answer to an
    address that it hasn't yet. ``lost``: why it may be used no more."""

    address: str  # with its prefix length
    gateway: str
    routes: tuple[tuple[str, str], ...]  # (prefix, gateway or "")
    server: str
    server_mac: str  # or that of the relay towards it
    mac: str
    options: dict[int, bytes]
    obtained_at: float
    renew_at: float
    rebind_at: float
    expires_at: float
    asked_at: float
    broadcast: bool = False
    lost: str = ""


class InPod(Want, frozen=True, kw_only=True):
    """Base of a link that stands in the pod alone, with nothing on the node.

    ``link``: what it is called until it is in the pod; ``mac`` "" is as the kernel has it."""

    link: str = ""
    mac: str = ""
    mtu: int = 0
    routes: tuple[Path, ...] = ()


class Dummy(InPod, frozen=True, kw_only=True, tag="dummy"):
    """A link that leads nowhere."""


class Stacked(InPod, frozen=True, kw_only=True):
    """Base of a link on another one, ``master``: the node's, or (``inside``) one in the pod."""

    master: str = ""
    inside: bool = False


class Macvlan(Stacked, frozen=True, kw_only=True, tag="macvlan"):
    """``mode`` is bridge, private, vepa or passthru; ``queue``: broadcasts that may wait, 0 the kernel's."""

    mode: str
    queue: int = 0


class Ipvlan(Stacked, frozen=True, kw_only=True, tag="ipvlan"):
    """``mode`` is l2, l3 or l3s."""

    mode: str


class Vlan(Stacked, frozen=True, kw_only=True, tag="vlan"):
    """``number`` is the VLAN's, IEEE 802.1Q."""

    number: int


class Tap(InPod, frozen=True, kw_only=True, tag="tap"):
    """A device that a program in the pod opens; None: root alone may. ``bridge`` is one in the pod."""

    multi_queue: bool = False
    owner: int | None = None
    group: int | None = None
    bridge: str = ""


class HostDevice(InPod, frozen=True, kw_only=True, tag="host-device"):
    """A link of the node that is the pod's meanwhile: what it is called on the node, its kind and alias.

    ``device`` "" is one that a driver in user space has, of which the kernel knows no link."""

    device: str = ""
    kind: str = ""
    alias: str = ""


InsideLink = Dummy | Macvlan | Ipvlan | Vlan | Tap | HostDevice
Interface = BridgePod | Ptp | InsideLink
Further = Ports | Shaped | Tuned | Passed | SourceRouted | InVrf | Leased
AnyWant = BridgeDevice | VlanGateway | Interface | Further


class Reservation(msgspec.Struct, frozen=True, kw_only=True):
    """Addresses held in a directory of the reference plugin's host-local."""

    directory: str
    addresses: tuple[str, ...]


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """What one plugin made for one interface of one container, by one configuration.

    ``container`` "" is a device that no container owns. ``addresses`` carry the prefix length; ``namespace``
    is the path that the runtime gave, ``namespace_id`` "dev:inode" of it. ``turn`` counts from 0 where the
    plugin stands in its chain more than once."""

    container: str
    ifname: str
    configuration: str
    want: AnyWant
    addresses: tuple[str, ...] = ()
    reserved: Reservation | None = None
    namespace: str = ""
    namespace_id: str = ""
    boot_id: str = ""
    turn: int = 0

    @property
    def plugin(self) -> str:
        """The name of the plugin, or of the kind of device."""
        return str(type(self.want).__struct_config__.tag)

    @property
    def series(self) -> str:
        """The id of its plugin's first turn: CONTAINER/IFNAME/CONFIGURATION/PLUGIN."""
        return f"{self.container}/{self.ifname}/{self.configuration}/{self.plugin}"

    @property
    def id(self) -> str:
        """Unique on a node: the series, from the second turn on with its number."""
        return in_turn(self.series, self.turn)


def in_turn(series: str, turn: int) -> str:
    """The id of a turn, counted from 0."""
    return f"{series}/{turn + 1}" if turn else series

"""Links: veth pairs made with both ends in one message, bridges and their ports, IFBs.

Numbers from linux/if_link.h, linux/rtnetlink.h, linux/if.h.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping

from podway.kernel.netlink import kinds, wire
from podway.model.objects import (
    BridgeOptions,
    BridgePort,
    IpTunnelOptions,
    Link,
    Peer,
    PortVlan,
    VrfOptions,
    VxlanOptions,
)

NEWLINK, DELLINK, GETLINK, SETLINK = 16, 17, 18, 19
IFINFO = struct.Struct("=BxHiII")  # struct ifinfomsg: family, type, index, flags, change
ADDRESS, IFNAME, MTU, LINK, MASTER, LINKINFO, TXQLEN = 1, 3, 4, 5, 10, 18, 13
NUM_TX_QUEUES, NUM_RX_QUEUES = 31, 32
IFALIAS, AF_SPEC, GROUP, NET_NS_FD, EXT_MASK, PROMISCUITY = 20, 26, 27, 28, 29, 30
AF_INET6, INET6_ADDR_GEN_MODE = 10, 8
GEN_EUI64, GEN_NONE = 0, 1  # IN6_ADDR_GEN_MODE_*
INFO_KIND, INFO_DATA, INFO_SLAVE_KIND, INFO_SLAVE_DATA = 1, 2, 4, 5
VETH_INFO_PEER = 1
IFF_UP, IFF_RUNNING, IFF_PROMISC, IFF_ALLMULTI = 0x1, 0x40, 0x100, 0x200
EXT_SKIP_STATS = 8  # RTEXT_FILTER_SKIP_STATS
GET_FLAGS, FLAGS_OF = 0x8913, struct.Struct("=16sH22x")  # SIOCGIFFLAGS of linux/sockios.h, struct ifreq

EXT_BRVLAN = 2  # RTEXT_FILTER_BRVLAN

BR_STP_STATE, BR_VLAN_FILTERING, BR_MCAST_SNOOPING = 5, 7, 23
AF_BRIDGE, BRIDGE_FLAGS, BRIDGE_VLAN_INFO = 7, 0, 2
FLAGS_MASTER = struct.pack("=H", 1)  # BRIDGE_FLAGS_MASTER: the port's own, not the bridge's
VLAN_INFO = struct.Struct("=HH")  # struct bridge_vlan_info: flags, number
VLAN_PVID, VLAN_UNTAGGED = 2, 4  # BRIDGE_VLAN_INFO_*
FIRST_VLANS = (PortVlan(1, True, True),)  # of a new port, by the bridge's default_pvid
VXLAN_ID, VXLAN_LOCAL, VXLAN_LEARNING, VXLAN_PORT, VXLAN_LOCAL6, VXLAN_UDP_CSUM = 1, 4, 7, 15, 17, 18
IPTUN_LOCAL, IPTUN_TTL, IPTUN_FLAGS, IPTUN_PROTO, IPTUN_PMTUDISC, IPTUN_COLLECT = 2, 4, 8, 9, 10, 19
TNL_IGN_ENCAP_LIMIT = 1  # IP6_TNL_F_IGN_ENCAP_LIMIT
VRF_TABLE = 1
IPTUN_KINDS = {"ipip": 4, "ip6tnl": 41}  # kind → IPPROTO_* of what it carries
BRPORT_HAIRPIN, BRPORT_LEARNING, BRPORT_ISOLATED = 4, 8, 33

_BRIDGE_OPTIONS = {
    "stp": (BR_STP_STATE, 4),
    "mcast_snooping": (BR_MCAST_SNOOPING, 1),
    "vlan_filtering": (BR_VLAN_FILTERING, 1),
}
_PORT_OPTIONS = {"hairpin": BRPORT_HAIRPIN, "learning": BRPORT_LEARNING, "isolated": BRPORT_ISOLATED}


# A veth uses one queue. Made with one for each processor, it gives the others back, and for that the kernel
# waits for all processors, once an end, with all links locked (drivers/net/veth.c veth_init_queues).
_ONE_QUEUE = wire.u32(NUM_TX_QUEUES, 1) + wire.u32(NUM_RX_QUEUES, 1)


def _header(index: int, flags: int = 0, change: int = 0) -> bytes:
    return IFINFO.pack(0, 0, index, flags, change)


def encode_create(link: Link, index: int, peer_index: int, peer_fd: int | None, master: int) -> bytes:
    """RTM_NEWLINK that makes ``link`` with the given ifindexes (0: the kernel's choice).

    For a veth the other end is made by the same message, in the namespace of ``peer_fd``. What only a
    second message can set (alias, up, port options) is ``encode_change``'s.
    """
    parts = [wire.text(IFNAME, link.name)]
    if link.kind == "veth":
        parts.append(_ONE_QUEUE)
    if link.mac:
        parts.append(wire.attribute(ADDRESS, wire.mac_bytes(link.mac)))
    if link.mtu:
        parts.append(wire.u32(MTU, link.mtu))
    if link.txqlen is not None:
        parts.append(wire.u32(TXQLEN, link.txqlen))
    if link.group is not None:
        parts.append(wire.u32(GROUP, link.group))
    if master:
        parts.append(wire.u32(MASTER, master))
    info = [wire.attribute(INFO_KIND, link.kind.encode())]
    if link.peer is not None:
        info.append(wire.nested(INFO_DATA, _peer(link.peer, peer_index, peer_fd)))
    elif link.bridge is not None:
        info.append(wire.nested(INFO_DATA, _bridge(link.bridge)))
    elif link.vxlan is not None:
        info.append(wire.nested(INFO_DATA, _vxlan(link.vxlan)))
    elif link.iptunnel is not None:
        info.append(wire.nested(INFO_DATA, _iptunnel(link.iptunnel, link.kind)))
    elif link.vrf is not None:
        info.append(wire.nested(INFO_DATA, wire.u32(VRF_TABLE, link.vrf.table)))
    parts.append(wire.nested(LINKINFO, *info))
    return wire.message(NEWLINK, wire.CREATE | wire.EXCL, _header(index) + b"".join(parts))


def encode_make(link: Link, lower: int, namespace: int | None) -> bytes:
    """RTM_NEWLINK that makes a link on the one with index ``lower`` (0: on none).

    ``namespace``: a descriptor of the one that it is to be in; ``lower`` is in the socket's."""
    parts = [wire.text(IFNAME, link.name)]
    if lower:
        parts.append(wire.u32(LINK, lower))
    if namespace is not None:
        parts.append(wire.u32(NET_NS_FD, namespace))
    if link.mac:
        parts.append(wire.attribute(ADDRESS, wire.mac_bytes(link.mac)))
    if link.mtu:
        parts.append(wire.u32(MTU, link.mtu))
    info = [wire.attribute(INFO_KIND, link.kind.encode())]
    if link.options is not None:
        info.append(wire.nested(INFO_DATA, kinds.encode(link.options)))
    parts.append(wire.nested(LINKINFO, *info))
    return wire.message(NEWLINK, wire.CREATE | wire.EXCL, _header(0) + b"".join(parts))


def encode_rename(index: int, name: str, alias: str) -> bytes:
    """RTM_NEWLINK that gives a link that is down another name, and an alias ("": none)."""
    parts = wire.text(IFNAME, name) + wire.attribute(IFALIAS, alias.encode())
    return wire.message(NEWLINK, 0, _header(index) + parts)


def encode_move(index: int, namespace: int, name: str, alias: str) -> bytes:
    """RTM_NEWLINK that moves a link into another namespace under another name; it is down then."""
    parts = wire.u32(NET_NS_FD, namespace) + wire.text(IFNAME, name) + wire.attribute(IFALIAS, alias.encode())
    return wire.message(NEWLINK, 0, _header(index) + parts)


def _peer(peer: Peer, index: int, namespace: int | None) -> bytes:
    parts = [wire.text(IFNAME, peer.name), _ONE_QUEUE]
    if peer.mac:
        parts.append(wire.attribute(ADDRESS, wire.mac_bytes(peer.mac)))
    if peer.mtu:
        parts.append(wire.u32(MTU, peer.mtu))
    if namespace is not None:
        parts.append(wire.u32(NET_NS_FD, namespace))
    return wire.nested(VETH_INFO_PEER, _header(index), *parts)


def _bridge(options: BridgeOptions, have: BridgeOptions | None = None) -> bytes:
    parts = []
    for name, (kind, size) in _BRIDGE_OPTIONS.items():
        value = getattr(options, name)
        if value is None or (have is not None and getattr(have, name) == value):
            continue
        parts.append(wire.u32(kind, value) if size == 4 else wire.u8(kind, value))
    return b"".join(parts)


def _vxlan(options: VxlanOptions) -> bytes:
    local = wire.ip_bytes(options.local)
    return b"".join(
        (
            wire.u32(VXLAN_ID, options.vni),
            wire.attribute(VXLAN_LOCAL if len(local) == 4 else VXLAN_LOCAL6, local),
            wire.attribute(VXLAN_PORT, options.port.to_bytes(2, "big")),
            wire.u8(VXLAN_LEARNING, options.learning),
            wire.u8(VXLAN_UDP_CSUM, options.checksum),
        )
    )


def _iptunnel(options: IpTunnelOptions, kind: str) -> bytes:
    """TTL 0 and no path MTU discovery of its own: the outer header has the inner one's TTL and DF."""
    parts = [wire.attribute(IPTUN_LOCAL, wire.ip_bytes(options.local))] if options.local else []
    if options.external:
        parts.append(wire.attribute(IPTUN_COLLECT, b""))
    parts += [wire.u8(IPTUN_TTL, 0), wire.u8(IPTUN_PROTO, IPTUN_KINDS[kind])]
    if kind == "ipip":
        return b"".join((*parts, wire.u8(IPTUN_PMTUDISC, 0)))
    # no "tunnel encapsulation limit", which is 8 bytes in every packet (RFC 2473 section 4.1.1)
    return b"".join((*parts, wire.u32(IPTUN_FLAGS, TNL_IGN_ENCAP_LIMIT)))


def _port(port: BridgePort, have: BridgePort | None) -> bytes:
    parts = []
    for name, kind in _PORT_OPTIONS.items():
        value = getattr(port, name)
        if value is not None and (have is None or getattr(have, name) != value):
            parts.append(wire.u8(kind, value))
    return b"".join(parts)


def encode_change(want: Link, have: Link | None, index: int, master: int) -> list[bytes]:
    """RTM_NEWLINK messages for what differs (``have`` None: everything that creation could not set)."""
    parts: list[bytes] = []
    flags = change = 0
    if want.alias is not None and (have is None or have.alias != want.alias):
        parts.append(wire.attribute(IFALIAS, want.alias.encode()))
    if have is not None:
        parts += _changed_plain(want, have, master)
        if want.bridge is not None and (data := _bridge(want.bridge, have.bridge)):
            info = wire.attribute(INFO_KIND, b"bridge"), wire.nested(INFO_DATA, data)
            parts.append(wire.nested(LINKINFO, *info))
    for value, old, bit in (
        (want.up, have.up if have else None, IFF_UP),
        (want.promisc, have.promisc if have else None, IFF_PROMISC),
        (want.allmulti, have.allmulti if have else None, IFF_ALLMULTI),
    ):
        if value is not None and value != old and not (have is None and not value):
            change |= bit
            flags |= bit if value else 0
    messages = _link_local(want, have, index)
    if parts or change:
        messages.append(wire.message(NEWLINK, 0, _header(index, flags, change) + b"".join(parts)))
    if want.port is not None and (data := _port(want.port, have.port if have else None)):
        slave = wire.attribute(INFO_SLAVE_KIND, b"bridge"), wire.nested(INFO_SLAVE_DATA, data)
        port = wire.nested(LINKINFO, wire.attribute(INFO_KIND, want.kind.encode()), *slave)
        # the port must be one before it has options: a message of its own, after the master's
        messages.append(wire.message(NEWLINK, 0, _header(index) + port))
    if want.port is not None and want.port.vlans is not None:
        found = have.port.vlans if have is not None and have.port is not None else None
        messages += _vlans(want.port.vlans, FIRST_VLANS if found is None else found, index)
    return messages


def _vlans(want: tuple[PortVlan, ...], have: tuple[PortVlan, ...], index: int) -> list[bytes]:
    """What is wrong goes before what is missing comes: a port has one VLAN for what has no tag."""
    gone = [one for one in have if one not in want]
    new = [one for one in want if one not in have]
    return [_vlan_message(kind, some, index) for kind, some in ((DELLINK, gone), (SETLINK, new)) if some]


def _vlan_message(kind: int, vlans: list[PortVlan], index: int) -> bytes:
    parts = [wire.attribute(BRIDGE_FLAGS, FLAGS_MASTER)]
    for one in vlans:
        flags = VLAN_PVID * one.pvid | VLAN_UNTAGGED * one.untagged
        parts.append(wire.attribute(BRIDGE_VLAN_INFO, VLAN_INFO.pack(flags, one.vid)))
    return wire.message(kind, 0, IFINFO.pack(AF_BRIDGE, 0, index, 0, 0) + wire.nested(AF_SPEC, *parts))


def encode_vlan_dump() -> bytes:
    """A request for the VLANs of all bridges and their ports."""
    return wire.message(GETLINK, 0, IFINFO.pack(AF_BRIDGE, 0, 0, 0, 0) + wire.u32(EXT_MASK, EXT_BRVLAN))


def decode_vlans(payload: bytes) -> tuple[int, tuple[PortVlan, ...]]:
    """(ifindex, its VLANs by number) of such a message."""
    spec, found = wire.attributes(payload, IFINFO.size).get(AF_SPEC, b""), []
    at = 0
    while at + 4 <= len(spec):
        length, kind = wire.ATTRIBUTE.unpack_from(spec, at)
        if length < 4:
            break
        if kind & wire.TYPE_MASK == BRIDGE_VLAN_INFO:
            flags, vid = VLAN_INFO.unpack_from(spec, at + 4)
            found.append(PortVlan(vid, bool(flags & VLAN_PVID), bool(flags & VLAN_UNTAGGED)))
        at += (length + 3) & ~3
    return IFINFO.unpack_from(payload)[2], tuple(sorted(found, key=lambda one: one.vid))


def _link_local(want: Link, have: Link | None, index: int) -> list[bytes]:
    """A message of its own before the others: with IFF_UP in one, the kernel brings the link up first."""
    if want.link_local is None or want.link_local == (have.link_local if have is not None else True):
        return []
    mode = wire.u8(INET6_ADDR_GEN_MODE, GEN_EUI64 if want.link_local else GEN_NONE)
    spec = wire.nested(AF_SPEC, wire.nested(AF_INET6, mode))
    return [wire.message(NEWLINK, 0, _header(index) + spec)]


def _changed_plain(want: Link, have: Link, master: int) -> list[bytes]:
    parts = []
    if want.mac is not None and want.mac != have.mac:
        parts.append(wire.attribute(ADDRESS, wire.mac_bytes(want.mac)))
    if want.mtu is not None and want.mtu != have.mtu:
        parts.append(wire.u32(MTU, want.mtu))
    if want.txqlen is not None and want.txqlen != have.txqlen:
        parts.append(wire.u32(TXQLEN, want.txqlen))
    if want.group is not None and want.group != have.group:
        parts.append(wire.u32(GROUP, want.group))
    if want.master is not None and want.master != have.master:
        parts.append(wire.u32(MASTER, master))
    return parts


def encode_delete(index: int) -> bytes:
    """RTM_DELLINK of one link."""
    return wire.message(DELLINK, 0, _header(index))


def encode_delete_group(group: int) -> bytes:
    """RTM_DELLINK of all links of a group."""
    return wire.message(DELLINK, 0, _header(0) + wire.u32(GROUP, group))


def encode_dump() -> bytes:
    """A request for all links, without statistics."""
    return wire.message(GETLINK, 0, _header(0) + wire.u32(EXT_MASK, EXT_SKIP_STATS))


def encode_get(name: str) -> bytes:
    """A request for one link by name."""
    return wire.message(GETLINK, 0, _header(0) + wire.text(IFNAME, name) + wire.u32(EXT_MASK, EXT_SKIP_STATS))


def is_running(payload: bytes) -> bool:
    """Whether a link of a message is up and sends (IFF_RUNNING), as both ends of a veth must be for that."""
    return bool(IFINFO.unpack_from(payload)[3] & IFF_RUNNING)


def index_of(payload: bytes) -> int:
    """The ifindex of a link message."""
    found: int = IFINFO.unpack_from(payload)[2]
    return found


def decode_index(payload: bytes) -> tuple[int, str]:
    """(ifindex, name) of a link message."""
    return index_of(payload), wire.string(wire.attributes(payload, IFINFO.size).get(IFNAME, b""))


def decode_peer(payload: bytes) -> int:
    """The ifindex of the other end of a link message's veth, in whichever namespace that is; 0 for none."""
    found = wire.attributes(payload, IFINFO.size)
    return int(wire.U32.unpack(found[LINK])[0]) if LINK in found else 0


def decode(payload: bytes, name_of: Callable[[int], str] | Mapping[int, str]) -> Link:
    """The link of an RTM_NEWLINK or RTM_DELLINK message."""
    look = name_of if callable(name_of) else lambda index: name_of.get(index, "")
    _, _, _, flags, _ = IFINFO.unpack_from(payload)
    found = wire.attributes(payload, IFINFO.size)
    info = wire.attributes(found.get(LINKINFO, b""))
    kind = wire.string(info.get(INFO_KIND, b""))
    master = wire.U32.unpack(found[MASTER])[0] if MASTER in found else 0
    family = wire.attributes(wire.attributes(found.get(AF_SPEC, b"")).get(AF_INET6, b""))
    slave = wire.string(info.get(INFO_SLAVE_KIND, b""))
    return Link(
        name=wire.string(found.get(IFNAME, b"")),
        kind=kind,
        alias=wire.string(found.get(IFALIAS, b"")),
        mac=wire.mac_text(found[ADDRESS]) if ADDRESS in found else "",
        mtu=wire.U32.unpack(found[MTU])[0] if MTU in found else 0,
        up=bool(flags & IFF_UP),
        master=look(master) if master else "",
        promisc=bool(flags & IFF_PROMISC),
        allmulti=bool(flags & IFF_ALLMULTI),
        group=wire.U32.unpack(found[GROUP])[0] if GROUP in found else 0,
        link_local=family.get(INET6_ADDR_GEN_MODE, b"\0")[0] != GEN_NONE,
        txqlen=wire.U32.unpack(found[TXQLEN])[0] if TXQLEN in found else 0,
        bridge=_decode_bridge(info.get(INFO_DATA, b"")) if kind == "bridge" else None,
        port=_decode_port(info.get(INFO_SLAVE_DATA, b"")) if slave == "bridge" else None,
        vxlan=_decode_vxlan(info.get(INFO_DATA, b"")) if kind == "vxlan" else None,
        iptunnel=_decode_iptunnel(info.get(INFO_DATA, b"")) if kind in IPTUN_KINDS else None,
        vrf=_decode_vrf(info.get(INFO_DATA, b"")) if kind == "vrf" else None,
        options=kinds.decode(kind, info.get(INFO_DATA, b"")),
    )


def decode_flags(name: str, flags: int) -> Link:
    """What a link's flags alone tell of it."""
    promisc, allmulti = bool(flags & IFF_PROMISC), bool(flags & IFF_ALLMULTI)
    return Link(name=name, kind="", up=bool(flags & IFF_UP), promisc=promisc, allmulti=allmulti)


def _decode_bridge(data: bytes) -> BridgeOptions:
    found = wire.attributes(data)
    return BridgeOptions(
        stp=any(found.get(BR_STP_STATE, b"")),
        mcast_snooping=any(found.get(BR_MCAST_SNOOPING, b"")),
        vlan_filtering=any(found.get(BR_VLAN_FILTERING, b"")),
    )


def _decode_vxlan(data: bytes) -> VxlanOptions:
    found = wire.attributes(data)
    local = found.get(VXLAN_LOCAL) or found.get(VXLAN_LOCAL6)
    return VxlanOptions(
        vni=wire.U32.unpack(found[VXLAN_ID])[0] if VXLAN_ID in found else 0,
        port=int.from_bytes(found.get(VXLAN_PORT, b""), "big"),
        local=wire.ip_text(local) if local else "",
        learning=any(found.get(VXLAN_LEARNING, b"")),
        checksum=any(found.get(VXLAN_UDP_CSUM, b"")),
    )


def _decode_iptunnel(data: bytes) -> IpTunnelOptions:
    found = wire.attributes(data)
    local = found.get(IPTUN_LOCAL, b"")
    return IpTunnelOptions(local=wire.ip_text(local) if any(local) else "", external=IPTUN_COLLECT in found)


def _decode_vrf(data: bytes) -> VrfOptions:
    found = wire.attributes(data)
    return VrfOptions(table=wire.U32.unpack(found[VRF_TABLE])[0] if VRF_TABLE in found else 0)


def _decode_port(data: bytes) -> BridgePort:
    found = wire.attributes(data)
    return BridgePort(
        hairpin=found.get(BRPORT_HAIRPIN, b"\0") != b"\0",
        isolated=found.get(BRPORT_ISOLATED, b"\0") != b"\0",
        learning=found.get(BRPORT_LEARNING, b"\0") != b"\0",
    )

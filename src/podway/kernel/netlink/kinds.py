"""IFLA_INFO_DATA of links on other links, and of taps.

Numbers from linux/if_link.h, linux/if_tun.h.
"""

from __future__ import annotations

from podway.kernel.netlink import wire
from podway.model.links import AnyOptions, IpvlanOptions, MacvlanOptions, TapOptions, VlanOptions

MACVLAN_MODE, MACVLAN_QUEUE = 1, 7
MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}
IPVLAN_MODE = 1
IPVLAN_MODES = {"l2": 0, "l3": 1, "l3s": 2}
VLAN_ID = 1
TUN_OWNER, TUN_GROUP, TUN_TYPE, TUN_MULTI_QUEUE = 1, 2, 3, 7
TAP = 2  # IFF_TAP


def _u16(kind: int, value: int) -> bytes:
    return wire.attribute(kind, wire.U16.pack(value))


def encode(options: AnyOptions) -> bytes:
    """Those that netlink can set; a tap is made by other means."""
    if isinstance(options, MacvlanOptions):
        mode = wire.u32(MACVLAN_MODE, MACVLAN_MODES[options.mode])
        return mode if options.queue is None else mode + wire.u32(MACVLAN_QUEUE, options.queue)
    if isinstance(options, IpvlanOptions):
        return _u16(IPVLAN_MODE, IPVLAN_MODES[options.mode])
    if isinstance(options, VlanOptions):
        return _u16(VLAN_ID, options.number)
    raise TypeError("taps are made by ioctl")


def decode(kind: str, data: bytes) -> AnyOptions | None:
    """Of a link whose IFLA_INFO_KIND is ``kind``; None for other kinds and for a mode without a name here."""
    found = wire.attributes(data)
    if kind == "macvlan" and MACVLAN_MODE in found:
        mode = _name(MACVLAN_MODES, wire.U32.unpack(found[MACVLAN_MODE])[0])
        queue = wire.U32.unpack(found[MACVLAN_QUEUE])[0] if MACVLAN_QUEUE in found else None
        return MacvlanOptions(mode=mode, queue=queue) if mode else None
    if kind == "ipvlan" and IPVLAN_MODE in found:
        mode = _name(IPVLAN_MODES, wire.U16.unpack(found[IPVLAN_MODE])[0])
        return IpvlanOptions(mode=mode) if mode else None
    if kind == "vlan" and VLAN_ID in found:
        return VlanOptions(number=wire.U16.unpack(found[VLAN_ID])[0])
    if kind == "tun" and found.get(TUN_TYPE, b"")[:1] == bytes((TAP,)):
        return TapOptions(
            owner=wire.U32.unpack(found[TUN_OWNER])[0] if TUN_OWNER in found else None,
            group=wire.U32.unpack(found[TUN_GROUP])[0] if TUN_GROUP in found else None,
            multi_queue=any(found.get(TUN_MULTI_QUEUE, b"")),
        )
    return None


def _name(modes: dict[str, int], number: int) -> str:
    return next((name for name, one in modes.items() if one == number), "")

"""Traffic control: token buckets, HTB with classes, ingress, and the filter that redirects all.

Numbers from linux/pkt_sched.h, pkt_cls.h, tc_act/tc_mirred.h. Rates are bits/s outside, bytes/s inside.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import cache

from podway.kernel.netlink import wire
from podway.model.objects import Filter, Qdisc, TrafficClass

NEWQDISC, DELQDISC, GETQDISC = 36, 37, 38
NEWTCLASS, DELTCLASS, GETTCLASS = 40, 41, 42
NEWTFILTER, DELTFILTER, GETTFILTER = 44, 45, 46
TCMSG = struct.Struct("=BxxxiIII")  # struct tcmsg: family, index, handle, parent, info
KIND, OPTIONS = 1, 2
ROOT = 0xFFFFFFFF  # TC_H_ROOT
RATESPEC = struct.Struct("=BBHhHI")  # cell_log, linklayer, overhead, cell_align, mpu, rate
LINKLAYER_ETHERNET = 1
TBF_PARMS, TBF_RATE64, TBF_BURST = 1, 4, 6
TBF_QOPT = struct.Struct("=12s12sIII")  # rate, peakrate, limit, buffer, mtu
HTB_PARMS, HTB_INIT, HTB_RATE64, HTB_CEIL64 = 1, 2, 6, 7
HTB_GLOB = struct.Struct("=IIIII")  # version, rate2quantum, defcls, debug, direct_pkts
HTB_OPT = struct.Struct("=12s12sIIIII")  # rate, ceil, buffer, cbuffer, quantum, level, prio
HTB_QUANTUM = 60000
U32_SEL, U32_ACT = 5, 7
SELECTOR = struct.Struct("=BBBxHHhhI")  # struct tc_u32_sel: flags, offshift, nkeys, …
SELECTOR_KEY = struct.Struct("=IIii")  # mask, val, off, offmask
TERMINAL = 1  # TC_U32_TERMINAL
ACT_KIND, ACT_OPTIONS = 1, 2
MIRRED_PARMS = 2
MIRRED = struct.Struct("=IIiiiiI")  # index, capab, action, refcnt, bindcnt, eaction, ifindex
STOLEN, EGRESS_REDIR = 4, 1  # TC_ACT_STOLEN, TCA_EGRESS_REDIR
ETH_P_ALL = 0x0300  # htons(0x0003)
LIMIT_32 = 0xFFFFFFFF


@cache
def ticks_per_microsecond() -> float:
    """How the kernel's scheduler counts time: /proc/net/psched."""
    with open("/proc/net/psched") as file:
        t2us, us2t, resolution = (int(word, 16) for word in file.read().split()[:3])
    return t2us / us2t * (resolution / 1_000_000)


def handle(text: str) -> int:
    """ "1:a" → 0x1000a; "root" → TC_H_ROOT; "" → 0."""
    if text == "root":
        return ROOT
    major, _, minor = text.partition(":")
    return (int(major or "0", 16) << 16) | int(minor or "0", 16)


def handle_text(number: int) -> str:
    """The inverse of ``handle``."""
    if number == ROOT:
        return "root"
    if not number:
        return ""
    minor = number & 0xFFFF
    return f"{number >> 16:x}:{minor:x}" if minor else f"{number >> 16:x}:"


def _head(index: int, own: str, parent: str, info: int = 0) -> bytes:
    return TCMSG.pack(0, index, handle(own), handle(parent), info)


def _rate(bits: int) -> bytes:
    return RATESPEC.pack(0, LINKLAYER_ETHERNET, 0, -1, 0, min(bits // 8, LIMIT_32))


def _buffer(bits: int, burst: int) -> int:
    """The time that ``burst`` bytes take at ``bits``/s, in ticks."""
    return min(LIMIT_32, round(burst * 8_000_000 / bits * ticks_per_microsecond()))


def _tbf(qdisc: Qdisc) -> bytes:
    rate, burst, limit = qdisc.rate or 0, qdisc.burst or 0, qdisc.limit or 0
    parms = TBF_QOPT.pack(_rate(rate), bytes(12), limit, _buffer(rate, burst), 0)
    parts = [wire.attribute(TBF_PARMS, parms), wire.u32(TBF_BURST, burst)]
    if rate // 8 > LIMIT_32:
        parts.append(wire.attribute(TBF_RATE64, wire.U64.pack(rate // 8)))
    return wire.nested(OPTIONS, *parts)


def encode_qdisc(qdisc: Qdisc, index: int) -> bytes:
    """RTM_NEWQDISC that makes or replaces. Raises ValueError for a kind it doesn't know."""
    parts = [wire.text(KIND, qdisc.kind)]
    if qdisc.kind == "tbf":
        parts.append(_tbf(qdisc))
    elif qdisc.kind == "htb":
        glob = HTB_GLOB.pack(3, 10, qdisc.default or 0, 0, 0)
        parts.append(wire.nested(OPTIONS, wire.attribute(HTB_INIT, glob)))
    elif qdisc.kind != "ingress":
        raise ValueError(f"queueing discipline {qdisc.kind}")
    flags = wire.CREATE | (wire.EXCL if qdisc.kind == "ingress" else wire.REPLACE)
    return wire.message(NEWQDISC, flags, _head(index, qdisc.handle, qdisc.parent) + b"".join(parts))


def encode_qdisc_delete(qdisc: Qdisc, index: int) -> bytes:
    """RTM_DELQDISC; classes and filters go with it."""
    return wire.message(DELQDISC, 0, _head(index, qdisc.handle, qdisc.parent))


def encode_class(one: TrafficClass, index: int) -> bytes:
    """RTM_NEWTCLASS of HTB that makes or replaces."""
    buffer, cbuffer = _buffer(one.rate, one.burst), _buffer(one.ceil, one.burst)
    parms = HTB_OPT.pack(_rate(one.rate), _rate(one.ceil), buffer, cbuffer, HTB_QUANTUM, 0, 0)
    parts = [wire.attribute(HTB_PARMS, parms)]
    for kind, bits in ((HTB_RATE64, one.rate), (HTB_CEIL64, one.ceil)):
        if bits // 8 > LIMIT_32:
            parts.append(wire.attribute(kind, wire.U64.pack(bits // 8)))
    body = wire.text(KIND, "htb") + wire.nested(OPTIONS, *parts)
    return wire.message(NEWTCLASS, wire.CREATE | wire.REPLACE, _head(index, one.handle, one.parent) + body)


def encode_class_delete(one: TrafficClass, index: int) -> bytes:
    """RTM_DELTCLASS."""
    return wire.message(DELTCLASS, 0, _head(index, one.handle, one.parent))


def encode_filter(one: Filter, index: int, target: int) -> bytes:
    """RTM_NEWTFILTER: a u32 filter without a condition, whose action redirects to ``target``."""
    selector = SELECTOR.pack(TERMINAL, 0, 1, 0, 0, 0, 0, 0) + SELECTOR_KEY.pack(0, 0, 0, 0)
    mirred = MIRRED.pack(0, 0, STOLEN, 0, 0, EGRESS_REDIR, target)
    options = wire.nested(ACT_OPTIONS, wire.attribute(MIRRED_PARMS, mirred))
    action = wire.nested(1, wire.text(ACT_KIND, "mirred"), options)
    body = wire.nested(OPTIONS, wire.attribute(U32_SEL, selector), wire.nested(U32_ACT, action))
    head = _head(index, "", one.parent, (one.priority << 16) | ETH_P_ALL)
    return wire.message(NEWTFILTER, wire.CREATE | wire.EXCL, head + wire.text(KIND, "u32") + body)


def encode_filter_delete(one: Filter, index: int) -> bytes:
    """RTM_DELTFILTER of all filters of a parent and priority."""
    head = _head(index, "", one.parent, (one.priority << 16) | ETH_P_ALL)
    return wire.message(DELTFILTER, 0, head)


def encode_dump(kind: int, index: int = 0, parent: str = "") -> bytes:
    """A GETQDISC, GETTCLASS or GETTFILTER request; the last two are per link."""
    return wire.message(kind, 0, _head(index, "", parent))


def _bits(parms: bytes, at: int, wide: bytes | None) -> int:
    rate: int = RATESPEC.unpack_from(parms, at)[5]
    return (wire.U64.unpack(wide)[0] if wide else rate) * 8


def _burst(rate: int, buffer: int) -> int:
    return round(buffer / ticks_per_microsecond() * rate / 8_000_000)


def decode_qdisc(payload: bytes, name_of: Mapping[int, str]) -> Qdisc | None:
    """The discipline of a message; None when its link is unknown."""
    _, index, own, parent, _ = TCMSG.unpack_from(payload)
    link = name_of.get(index)
    if link is None:
        return None
    found = wire.attributes(payload, TCMSG.size)
    kind = wire.string(found[KIND])
    options = found.get(OPTIONS, b"")
    where = handle_text(parent)
    handle = handle_text(own)
    if kind == "tbf":
        inner = wire.attributes(options)
        parms = inner[TBF_PARMS]
        _, _, limit, buffer, _ = TBF_QOPT.unpack(parms)
        rate = _bits(parms, 0, inner.get(TBF_RATE64))
        burst = _burst(rate, buffer)
        return Qdisc(link=link, kind=kind, parent=where, handle=handle, rate=rate, burst=burst, limit=limit)
    if kind == "htb":
        default = HTB_GLOB.unpack_from(wire.attributes(options)[HTB_INIT])[2]
        return Qdisc(link=link, kind=kind, parent=where, handle=handle, default=default)
    return Qdisc(link=link, kind=kind, parent=where, handle=handle)


def decode_class(payload: bytes, name_of: Mapping[int, str]) -> TrafficClass | None:
    """The HTB class of a message; None for other kinds and unknown links."""
    _, index, own, parent, _ = TCMSG.unpack_from(payload)
    found = wire.attributes(payload, TCMSG.size)
    if index not in name_of or wire.string(found[KIND]) != "htb":
        return None
    inner = wire.attributes(found.get(OPTIONS, b""))
    parms = inner[HTB_PARMS]
    rate = _bits(parms, 0, inner.get(HTB_RATE64))
    buffer = HTB_OPT.unpack_from(parms)[2]
    return TrafficClass(
        link=name_of[index],
        # a class right below the discipline is shown as a child of the root
        parent=handle_text(own & 0xFFFF0000 if parent == ROOT else parent),
        handle=handle_text(own),
        rate=rate,
        ceil=_bits(parms, 12, inner.get(HTB_CEIL64)),
        burst=_burst(rate, buffer),
    )


def decode_filter(payload: bytes, name_of: Mapping[int, str]) -> Filter | None:
    """The redirecting filter of a message; None for every other."""
    _, index, _, parent, info = TCMSG.unpack_from(payload)
    found = wire.attributes(payload, TCMSG.size)
    inner = wire.attributes(found.get(OPTIONS, b""))
    action = wire.attributes(wire.attributes(inner.get(U32_ACT, b"")).get(1, b""))
    parms = wire.attributes(action.get(ACT_OPTIONS, b"")).get(MIRRED_PARMS)
    if index not in name_of or parms is None:
        return None
    target: int = MIRRED.unpack_from(parms)[6]
    return Filter(
        link=name_of[index],
        redirect=name_of.get(target, ""),
        parent=handle_text(parent),
        priority=info >> 16,
    )

"""``bandwidth``: rates of the pod's veth, from the configuration or else the capability ``bandwidth``."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import msgspec

from podway.cni import config
from podway.cni.dropin.ask import Ask
from podway.cni.dropin.frame import Chained
from podway.cni.errors import wrong
from podway.cni.protocol import Interface, Result
from podway.cni.reader import Section
from podway.model import names
from podway.model.dropin import AnyWant, BridgePod, Piece, Ptp, Shaped
from podway.model.errors import Conflict
from podway.model.objects import Link
from podway.model.resources import Bandwidth

if TYPE_CHECKING:
    from podway.node.engine import NodeEngine

_LARGEST = (2**32 - 1) * 8 - 1  # bits, of which the reference takes so many: its bytes are a 32-bit number
_KEYS = ("ingressRate", "ingressBurst", "egressRate", "egressBurst")


def want(ask: Ask, before: Result) -> Shaped | None:
    """None without a limit. Raises CniError 7, naming the key."""
    written = any(ask.section.present(key) for key in _KEYS)  # one of them, null or 0 too, is all that counts
    told = ask.section if written else ask.section.section("runtimeConfig").section("bandwidth")
    ingress, egress = _bucket(told, "ingress"), _bucket(told, "egress")
    if not ingress[0] and not egress[0]:
        return None
    if not any(not one.sandbox for one in before.interfaces):
        raise wrong("prevResult", "has no interface on the node that could be limited")
    limits = Bandwidth(
        ingress_rate=ingress[0], ingress_burst=ingress[1], egress_rate=egress[0], egress_burst=egress[1]
    )
    return Shaped(bandwidth=limits)


def _bucket(told: Section, way: str) -> tuple[int, int]:
    """(rate in bits/s, burst in bits), both or neither."""
    rate = told.number(f"{way}Rate")
    burst = told.number(f"{way}Burst", highest=_LARGEST)
    if rate and not burst:
        raise wrong(told.at(f"{way}Burst"), f"is missing; {way}Rate needs one")
    if burst and not rate:
        raise wrong(told.at(f"{way}Rate"), f"is missing; {way}Burst needs one")
    return rate, burst


def prepare(engine: NodeEngine, ask: Ask, piece: Piece) -> Piece:
    """Find the host's side of the pod's veth among the interfaces of prevResult. Raises CniError 7, and
    Conflict where a turn before has limited the same way."""
    assert isinstance(piece.want, Shaped) and ask.before is not None
    _refuse_twice(ask, piece.want, engine.pieces.turns(piece.series))
    names_told = {one.name for one in ask.before.interfaces if not one.sandbox}
    link = _made_here(engine, piece) or _looked_for(engine, ask, names_told)
    if link is None or link.name not in names_told:
        raise wrong("prevResult", f"has no veth on the node whose other end is {ask.me.ifname}")
    found = msgspec.structs.replace(piece.want, link=link.name, mtu=link.mtu or 0)
    return msgspec.structs.replace(piece, want=found)


def _refuse_twice(ask: Ask, want: Shaped, before: Collection[Piece]) -> None:
    """A link has one bucket each way, as with the reference plugin."""
    limited = [one.want.bandwidth for one in before if isinstance(one.want, Shaped)]
    for way in ("ingress_rate", "egress_rate"):
        if getattr(want.bandwidth, way) and any(getattr(one, way) for one in limited):
            what = f"what {ask.me.ifname} has of {way.partition('_')[0]} is limited already"
            raise Conflict(what, f"container {ask.me.container}", "send DEL first, or limit it once")


def _made_here(engine: NodeEngine, piece: Piece) -> Link | None:
    """The link that another plugin of ours made for this interface: its alias says so."""
    maker = engine.pieces.maker_of(piece)
    if maker is None or not isinstance(maker.want, BridgePod | Ptp):
        return None
    link = engine.kernel.rtnetlink.get_link(maker.want.link)
    return link if link is not None and link.alias == names.dropin_alias(maker.id) else None


def _looked_for(engine: NodeEngine, ask: Ask, told: Collection[str]) -> Link | None:
    kernel = engine.kernel
    inside = kernel.index_inside(ask.call.pod_fd, ask.me.ifname)
    for name in told:
        link = None if config.ifname_problem(name) else kernel.rtnetlink.get_link(name)
        if link is not None and link.kind == "veth" and inside and kernel.rtnetlink.peer_of(name) == inside:
            return link
    return None


def result(ask: Ask, before: Result, made: AnyWant | None) -> Result:
    """With the device that holds back what the pod sends, as the reference plugin tells it."""
    if not isinstance(made, Shaped) or not made.bandwidth.egress_rate:
        return before
    name = names.ifb_link(ask.me.container, ask.me.ifname)
    device = Interface(name=name, mac=names.mac("ifb", name))
    return msgspec.structs.replace(before, interfaces=(*before.interfaces, device))


PLUGIN = Chained("bandwidth", want, prepare, result=result, repeats=True)

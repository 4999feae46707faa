"""``sbr``: what a pod sends from an address of this interface goes by this interface (source based routing).

The routes are moved, and put back by DEL while the pod lives. How they were in a pod of the reference
plugin's, nobody knows.
"""

from __future__ import annotations

import contextlib
import ipaddress
from typing import TYPE_CHECKING

import msgspec

from podway.cni import runtime
from podway.cni.dropin.ask import Ask
from podway.cni.dropin.frame import Chained
from podway.cni.errors import CniError, wrong
from podway.cni.protocol import Result
from podway.model.dropin import Piece, SourceRouted
from podway.model.errors import Conflict, PodwayError, Unavailable
from podway.node import inside
from podway.plan.dropin import sbr

if TYPE_CHECKING:
    from podway.node.engine import NodeEngine


def want(ask: Ask, before: Result) -> SourceRouted | None:
    """None where no address is this interface's. Raises CniError 7, naming the key."""
    table = ask.section.maybe_number("table", highest=2**32 - 1)
    if table == 0:
        raise wrong("table", "0 is no routing table", "leave it out for one of its own")
    if not before.ips:
        raise wrong("prevResult", f"has no address of {ask.me.ifname}")
    hops = []
    for one in before.ips:
        at = one.interface
        if at is None or not 0 <= at < len(before.interfaces) or before.interfaces[at].name == ask.me.ifname:
            gateway = runtime.address("prevResult", one.gateway) if one.gateway else ""
            hops.append((_checked(one.address), gateway))
    return SourceRouted(hops=tuple(hops), table=table or 0) if hops else None


def _checked(text: str) -> str:
    try:
        return str(ipaddress.ip_interface(text))
    except ValueError:
        raise wrong("prevResult", f"{text!r} is not an address") from None


def prepare(engine: NodeEngine, ask: Ask, piece: Piece) -> Piece:
    """Look at the pod's routes and rules. Raises Unavailable without the interface."""
    assert isinstance(piece.want, SourceRouted)
    found = engine.kernel.observe_inside(ask.call.pod_fd)
    if ("link", piece.ifname) not in found:
        raise Unavailable(f"there is no {piece.ifname} in the pod", f"container {piece.container}")
    return msgspec.structs.replace(piece, want=sbr.settled(piece.want, piece.ifname, found))


def recognize(engine: NodeEngine, ask: Ask, piece: Piece) -> Piece:
    """With the rules that the reference plugin made. Raises Conflict where an address has none."""
    assert isinstance(piece.want, SourceRouted)
    found = engine.kernel.observe_inside(ask.call.pod_fd)
    rules, _ = sbr.left(piece.ifname, piece.want.table, found)
    ruled = {one.src for one in rules}
    for address, _ in piece.want.hops:
        if sbr.source(address) not in ruled:
            what = f"the rule for {sbr.source(address)} is missing in the pod"
            raise Conflict(what, f"container {piece.container}", "delete and add the pod")
    return msgspec.structs.replace(piece, want=msgspec.structs.replace(piece.want, rules=rules))


def inherit(engine: NodeEngine, ask: Ask) -> None:
    """Remove what the reference plugin made in a pod that lives; none is no error."""
    with contextlib.suppress(CniError, PodwayError, OSError):
        table = ask.section.maybe_number("table", highest=2**32 - 1) or 0
        if ask.living >= 0:
            rules, routes = sbr.left(ask.me.ifname, table, engine.kernel.observe_inside(ask.living))
            inside.take_over(engine, ask.me.container, ask.living, gone=(*rules, *routes))


PLUGIN = Chained("sbr", want, prepare, inherit=inherit, recognize=recognize)

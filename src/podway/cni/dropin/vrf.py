"""``vrf``: the pod's interface in a VRF device of the pod's, which is made when it isn't there.

The last interface that leaves takes along the device that Podway made.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import msgspec

from podway.cni import config
from podway.cni.dropin.ask import Ask
from podway.cni.dropin.frame import Chained
from podway.cni.errors import CniError, wrong
from podway.cni.protocol import Result
from podway.model.dropin import InVrf, Piece
from podway.model.errors import Conflict, PodwayError, Unavailable
from podway.model.objects import Link
from podway.node import inside
from podway.plan.dropin import vrf

if TYPE_CHECKING:
    from podway.node.engine import NodeEngine


def want(ask: Ask, before: Result) -> InVrf:
    """Raises CniError 7, naming the key."""
    name = ask.section.text("vrfname")
    if not name:
        raise wrong("vrfname", "is missing")
    if problem := config.ifname_problem(name):
        raise wrong("vrfname", f"{name!r} {problem}")
    return InVrf(name=name, table=ask.section.number("table", highest=2**32 - 1))


def prepare(engine: NodeEngine, ask: Ask, piece: Piece) -> Piece:
    """Look at what the interface will lose. Raises CniError 7, Conflict, Unavailable."""
    assert isinstance(piece.want, InVrf)
    found, where = engine.kernel.observe_inside(ask.call.pod_fd), f"container {piece.container}"
    mine, device = (found.get(("link", name)) for name in (piece.ifname, piece.want.name))
    if not isinstance(mine, Link):
        raise Unavailable(f"there is no {piece.ifname} in the pod", where)
    if mine.master:
        raise Conflict(f"{piece.ifname} is in {mine.master} already", where)
    if isinstance(device, Link):
        if device.vrf is None:
            raise wrong("vrfname", f"{device.name} is a {device.kind or 'hardware'} link, not a VRF")
        if piece.want.table not in (0, device.vrf.table):
            raise wrong("table", f"{device.name} stands already, with the table {device.vrf.table}")
    return msgspec.structs.replace(piece, want=vrf.settled(piece.want, piece.ifname, found))


def inherit(engine: NodeEngine, ask: Ask) -> None:
    """Undo what the reference plugin made in a pod that lives; none is no error."""
    with contextlib.suppress(CniError, PodwayError, OSError):
        name = ask.section.text("vrfname")
        found = engine.kernel.observe_inside(ask.living) if name and ask.living >= 0 else {}
        theirs = vrf.recognized(name, ask.me.ifname, found)
        if theirs is not None:
            piece = Piece(
                container=ask.me.container, ifname=ask.me.ifname, configuration=ask.conf.name, want=theirs
            )
            change = vrf.as_found(piece, theirs, found, foreign=True)
            inside.take_over(engine, ask.me.container, ask.living, *change)


PLUGIN = Chained("vrf", want, prepare, inherit=inherit)

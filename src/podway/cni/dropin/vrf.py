"""``vrf``: the pod's interface in a VRF device of the pod's, which is made when it isn't there.

The last interface that leaves takes along the device that Podway made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from podway.cni import config
from podway.cni.dropin.ask import Ask
from podway.cni.dropin.frame import Chained
from podway.cni.dropin.inside import living
from podway.cni.errors import wrong
from podway.cni.protocol import Result
from podway.kernel.facade import is_owned
from podway.model.dropin import InVrf, Piece
from podway.model.errors import Conflict, Unavailable
from podway.model.objects import AnyObject, Link
from podway.node import wiring
from podway.plan.dropin import vrf
from podway.plan.dropin.pod import KERNEL_PROTOCOL

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


def undo(engine: NodeEngine, piece: Piece) -> None:
    """Out of the VRF, with its routes where they were, if the pod is still there."""
    assert isinstance(piece.want, InVrf)
    want = piece.want
    with living(piece) as fd:
        if fd is None:
            return
        links = [one for one in engine.kernel.observe_inside(fd).values() if isinstance(one, Link)]
        inside = {one.name for one in links if one.master == want.name}
        device = [one for one in links if one.name == want.name and one.vrf is not None and is_owned(one)]
        objects: tuple[AnyObject, ...] = ()
        if piece.ifname in inside:
            out = Link(name=piece.ifname, kind=want.kind, up=None, master="")
            routes = (one for one in want.found if one.protocol != KERNEL_PROTOCOL)
            objects = (out, *want.addresses, *routes)
        gone = device if inside <= {piece.ifname} else ()
        wiring.program_pod(engine.kernel, objects, fd, f"container {piece.container}", gone)


PLUGIN = Chained("vrf", want, prepare, undo)

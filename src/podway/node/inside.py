"""Making and removing the links of pieces that stand in a pod alone."""

from __future__ import annotations

import errno
import os

import msgspec

from podway.kernel import inside, namespaces
from podway.kernel.facade import Kernel
from podway.model import names
from podway.model.dropin import Dummy, HostDevice, InPod, Piece, Stacked
from podway.model.errors import Conflict, InvalidInput
from podway.model.objects import AnyObject, Link, Op, OpResult, Route
from podway.node import wiring


def make(kernel: Kernel, piece: Piece, want: InPod, objects: tuple[AnyObject, ...], namespace: int) -> None:
    """Raises Conflict, InvalidInput, Unavailable or OSError; ``remove`` takes away what stands then."""
    who = f"container {piece.container}"
    if not objects:
        return
    link = next(one for one in objects if isinstance(one, Link))
    lower, within = (want.master, want.inside) if isinstance(want, Stacked) else ("", False)
    try:
        if isinstance(want, HostDevice):
            made = inside.move_in(kernel.rtnetlink, namespace, want.device, piece.ifname)
        else:
            made = inside.make(kernel.rtnetlink, namespace, link, want.link, lower, within)
    except OSError as error:
        _explain(error, link, lower, who)
        raise
    last = [one for one in objects if isinstance(one, Link | Route)]
    # addresses first: it tells of them when it comes up
    wiring.program_pod(kernel, [one for one in objects if one not in last], namespace, who)
    wiring.program_pod(kernel, last, namespace, who, made=made)


def _explain(error: OSError, link: Link, lower: str, who: str) -> None:
    words = error.strerror or str(error)
    if error.errno == errno.EOPNOTSUPP:
        fix = f"load the kernel's module for {link.kind}, or use a kernel that has it"
        raise InvalidInput(f"this kernel makes no {link.kind} links: {words}", who, fix) from None
    if error.errno == errno.EBUSY:
        raise Conflict(f"{lower or link.name} can carry no {link.kind} link now: {words}", who) from None
    wiring.raise_first([OpResult(Op(link, None), error.errno or errno.EIO, words)], who)


def tolerated(one: AnyObject, want: InPod, foreign: bool) -> AnyObject:
    """What CHECK asks for: a link that somebody set down passes, but for a dummy, as the reference has it.

    ``foreign``: it was made by the reference plugin."""
    if not isinstance(one, Link):
        return one
    up = one.up if isinstance(want, Dummy) else None
    return msgspec.structs.replace(one, up=up, alias=None if foreign else one.alias)


def remove(kernel: Kernel, piece: Piece, want: InPod, namespace: int = -1) -> None:
    """Nothing being there, or no such namespace any more, is no error. Raises OSError.

    ``namespace``: a descriptor of the pod's, where one is at hand."""
    fd = namespaces.open_same(piece.namespace, piece.namespace_id) if namespace < 0 else namespace
    if fd is None:
        if isinstance(want, HostDevice) and want.device:
            inside.fallen(kernel.rtnetlink, want.device, want.mac, want.alias)
        return
    try:
        if isinstance(want, HostDevice):
            _give_back(kernel, piece, want, fd)
        else:
            inside.remove(fd, names.dropin_alias(piece.id), want.link)
    finally:
        if fd != namespace:
            os.close(fd)


def _give_back(kernel: Kernel, piece: Piece, want: HostDevice, namespace: int) -> None:
    if not want.device:
        return
    try:
        inside.move_out(kernel.rtnetlink, namespace, piece.ifname, want.device, want.alias)
    except FileExistsError as error:
        fix = "rename that one, and send DEL again"
        raise Conflict(error.strerror or str(error), f"container {piece.container}", fix) from None

"""What pieces have inside pods: links that stand there alone, and what they put back when they go."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

import msgspec

from podway.kernel import inside, namespaces
from podway.kernel.facade import Kernel
from podway.model import names
from podway.model.dropin import Dummy, HostDevice, InPod, InVrf, Leased, Piece, Stacked, Tuned
from podway.model.errors import Conflict, InvalidInput, PodwayError
from podway.model.objects import AnyObject, Link, Op, OpResult, Route
from podway.model.resources import Endpoint
from podway.node import dhcp, takeover, wiring
from podway.node.faults import reach
from podway.plan import dropin
from podway.plan.dropin import tuning

if TYPE_CHECKING:
    from podway.node.engine import NodeEngine

T = TypeVar("T", Piece, Endpoint)


def make(kernel: Kernel, piece: Piece, want: InPod, objects: tuple[AnyObject, ...], namespace: int) -> None:
    """Raises Conflict, InvalidInput, Unavailable or OSError; ``leave`` takes away what stands then."""
    who = f"container {piece.container}"
    if not objects:
        return
    link = next(one for one in objects if isinstance(one, Link))
    lower, within = (want.master, want.inside) if isinstance(want, Stacked) else ("", False)
    try:
        if isinstance(want, HostDevice):
            made = inside.move_in(kernel.rtnetlink, namespace, want.device, piece.ifname)
        else:
            inside.begin(kernel.rtnetlink, namespace, link, want.link, lower, within)
            reach("inside.begun")
            made = inside.finish(namespace, link, want.link)
    except OSError as error:
        _explain(error, link, lower, who)
        raise
    reach("inside.made")
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


def tolerated(one: AnyObject, piece: Piece, foreign: bool) -> AnyObject:
    """What CHECK asks for: a link without addresses that somebody set down passes, but for a dummy, as the
    reference has it. ``foreign``: it was made by the reference plugin."""
    if not isinstance(one, Link):
        return one
    up = one.up if piece.addresses or isinstance(piece.want, Dummy) else None
    return msgspec.structs.replace(one, up=up, alias=None if foreign else one.alias)


def by(one: T, namespace: int) -> T:
    """The same with a descriptor as its way to the pod, if it leads to the same; it stays open so long."""
    if namespace < 0 or namespaces.identity(namespace) != one.namespace_id:
        return one
    return msgspec.structs.replace(one, namespace=f"/proc/self/fd/{namespace}")


def leave(kernel: Kernel, piece: Piece) -> None:
    """What the piece has in its pod goes, what it changed there is as it was, a lease is given back.

    Nothing being there, or no such pod any more, is no error. Raises Conflict, OSError."""
    if isinstance(piece.want, InPod):
        _remove(kernel, piece, piece.want)
    if isinstance(piece.want, Leased) and not piece.want.lost:
        dhcp.release(piece, piece.want)
    _put_back(kernel, piece)


def _remove(kernel: Kernel, piece: Piece, want: InPod) -> None:
    """Nothing being there, or no such namespace any more, is no error. Raises OSError."""
    fd = namespaces.open_same(piece.namespace, piece.namespace_id)
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
        os.close(fd)


@contextlib.contextmanager
def living(piece: Piece | Endpoint) -> Iterator[int | None]:
    """A descriptor of its pod's namespace, None when it is gone; what can't be done in there is no error."""
    fd = namespaces.open_same(piece.namespace, piece.namespace_id)
    try:
        with contextlib.suppress(PodwayError, OSError):
            yield fd
    finally:
        if fd is not None:
            os.close(fd)


def revert(kernel: Kernel, piece: Piece, want: Tuned) -> None:
    """The sysctls of an ADD that failed are as before it; those of one that succeeded outlive the DEL."""
    with living(piece) as fd:
        if fd is not None:
            wiring.program_pod(kernel, tuning.overwritten(want), fd, f"container {piece.container}")


def _put_back(kernel: Kernel, piece: Piece) -> None:
    """What the piece changed inside the pod is as it was, if pod and interface are still there."""
    if not dropin.puts_back(piece):
        return
    with living(piece) as fd:
        if fd is not None:
            actual = kernel.observe_inside(fd) if isinstance(piece.want, InVrf) else {}
            objects, gone = dropin.as_found(piece, actual)
            wiring.program_pod(kernel, objects, fd, f"container {piece.container}", gone)


def take_over(
    engine: NodeEngine,
    container: str,
    namespace: int,
    objects: Iterable[AnyObject] = (),
    gone: Iterable[AnyObject] = (),
) -> None:
    """Undo what a reference plugin made inside a pod, the journal first. Raises PodwayError, OSError."""
    objects, gone = tuple(objects), tuple(gone)
    if objects or gone:
        subject = f"container {container}"
        takeover.note(engine.database, subject, [wiring.title(one.key) for one in (*objects, *gone)])
        wiring.program_pod(engine.kernel, objects, namespace, subject, gone)


def _give_back(kernel: Kernel, piece: Piece, want: HostDevice, namespace: int) -> None:
    if not want.device:
        return
    try:
        if not inside.move_out(kernel.rtnetlink, namespace, piece.ifname, want.device, want.alias):
            # another namespace may have the path and number of the pod's that is gone
            inside.fallen(kernel.rtnetlink, want.device, want.mac, want.alias)
    except FileExistsError as error:
        fix = "rename that one, and send DEL again"
        raise Conflict(error.strerror or str(error), f"container {piece.container}", fix) from None

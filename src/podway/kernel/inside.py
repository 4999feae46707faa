"""Links that stand in a pod's namespace alone: made there, or moved in.

A link has a name of Podway's own until it is in the pod: kernels before 6.14 refuse one that the node has
already. Its final name comes in one message with its alias, so that what was half made is known by either.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

import msgspec

from podway.kernel import namespaces
from podway.kernel.rtnetlink import Rtnetlink
from podway.model.objects import Link


@contextlib.contextmanager
def _within(namespace: int) -> Iterator[Rtnetlink]:
    """A socket in a pod's namespace, which it doesn't outlive."""
    with namespaces.entered(namespace):
        socket = Rtnetlink()
        try:
            yield socket
        finally:
            socket.close()


def make(node: Rtnetlink, namespace: int, link: Link, passing: str, lower: str, inside: bool) -> Link:
    """Make ``link``, down, on ``lower`` (of the node, or ``inside``); what the kernel made of it.

    Raises OSError with nothing left: EEXIST where the pod has one of that name, ENODEV without ``lower``."""
    early = msgspec.structs.replace(link, name=passing)
    outside = bool(lower) and not inside
    with _within(namespace) as pod:
        if pod.get_link(link.name) is not None:
            raise OSError(errno.EEXIST, "File exists")
        if not outside:
            pod.make(early, lower)
    if outside:
        node.make(early, lower, namespace)
    with _within(namespace) as pod:
        try:
            pod.rename(passing, link.name, link.alias or "")
        except OSError:
            pod.delete(passing)
            raise
        return pod.get_link(link.name) or link


def remove(namespace: int, alias: str, passing: str) -> None:
    """Delete what ``make`` has made, or begun to. Raises OSError."""
    with _within(namespace) as pod:
        for found in pod.dump("link").values():
            if isinstance(found, Link) and (found.alias == alias or found.name == passing):
                pod.delete(found.name)

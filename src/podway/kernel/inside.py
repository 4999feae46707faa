"""Links that stand in a pod's namespace alone: made there, or moved in.

A link has a name of Podway's own until it is in the pod: kernels before 6.14 refuse one that the node has
already. Its final name comes in one message with its alias, so that what was half made is known by either.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

import msgspec

from podway.kernel import namespaces, tap
from podway.kernel.rtnetlink import Rtnetlink
from podway.model.links import TapOptions
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


def begin(node: Rtnetlink, namespace: int, link: Link, passing: str, lower: str, inside: bool) -> None:
    """Make ``link`` under its ``passing`` name, down, on ``lower`` (of the node, or ``inside``).

    Raises OSError with nothing left: EEXIST where the pod has one of that name, ENODEV without ``lower``."""
    early = msgspec.structs.replace(link, name=passing)
    outside = bool(lower) and not inside
    with _within(namespace) as pod:
        if pod.get_link(link.name) is not None:
            raise OSError(errno.EEXIST, "File exists")
        if isinstance(link.options, TapOptions):
            tap.make(passing, link.options)
        elif not outside:
            pod.make(early, lower)
    if outside:
        node.make(early, lower, namespace)


def finish(namespace: int, link: Link, passing: str) -> Link:
    """Give what was begun its name; what the kernel made of it. Raises OSError with nothing left."""
    with _within(namespace) as pod:
        try:
            pod.rename(passing, link.name, link.alias or "")
        except OSError:
            pod.delete(passing)
            raise
        return pod.get_link(link.name) or link


def remove(namespace: int, alias: str, passing: str) -> None:
    """Delete what was made, or begun. Raises OSError."""
    with _within(namespace) as pod:
        for found in pod.dump("link").values():
            if isinstance(found, Link) and (found.alias == alias or found.name == passing):
                pod.delete(found.name)


def move_in(node: Rtnetlink, namespace: int, device: str, name: str) -> Link | None:
    """Move a link of the node into a pod, where its alias is what it was called; it is down then.

    Raises OSError with nothing changed: EEXIST where the pod has one of that name."""
    with _within(namespace) as pod:
        if pod.get_link(name) is not None:
            raise OSError(errno.EEXIST, "File exists")
    node.move(device, namespace, name, device)
    with _within(namespace) as pod:
        return pod.get_link(name)


def move_out(node: Rtnetlink, namespace: int, name: str, device: str, alias: str) -> None:
    """Move a link that ``move_in`` has moved back, down and under its old name; others stay.

    Raises OSError: EEXIST where the node has another of that name now."""
    home = os.open(namespaces.OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with _within(namespace) as pod:
            found = pod.get_link(name)
            if found is None or found.alias != device:
                return
            if node.get_link(device) is not None:
                raise OSError(errno.EEXIST, f"the node has another {device} now")
            pod.move(name, home, device, alias)
    finally:
        os.close(home)


def fallen(node: Rtnetlink, device: str, mac: str, alias: str) -> None:
    """Give a link its old name that the kernel brought back when its pod's namespace went. Raises OSError."""
    for found in node.dump("link").values():
        if isinstance(found, Link) and (found.alias, found.mac) == (device, mac) and not found.up:
            node.rename(found.name, device, alias)

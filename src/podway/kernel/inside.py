"""Links that stand in a pod's namespace alone: made there, or moved in.

A link has a name of Podway's own until it is in the pod: kernels before 6.14 refuse one that the node has
already. Its final name comes in one message with its alias, so that what was half made is known by either.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
from collections.abc import Iterator

import msgspec

from podway.kernel import namespaces, tap
from podway.kernel.rtnetlink import Rtnetlink
from podway.model.errors import Conflict
from podway.model.links import TapOptions
from podway.model.objects import Address, Link, Op


@contextlib.contextmanager
def _within(namespace: int) -> Iterator[Rtnetlink]:
    """A socket in a pod's namespace, which it doesn't outlive."""
    with namespaces.entered(namespace):
        socket = Rtnetlink()
        try:
            yield socket
        finally:
            socket.close()


def loopback_up(namespace: int) -> tuple[str, ...]:
    """Set lo up; the addresses that it has then, which the kernel gives it, but for IPv6 where that is off.

    Raises OSError, and Conflict where it has one that is none of a loopback: nothing is changed then."""
    down, up = (Link(name="lo", kind="", up=one) for one in (False, True))
    with _within(namespace) as pod:
        found = pod.dump("link").get(up.key)
        addresses = _of_loopback(pod)
        for one in addresses:
            if not ipaddress.ip_interface(one).is_loopback:
                raise Conflict(f"lo has {one} in the pod, which is no loopback address", fix="take it off")
        if isinstance(found, Link) and found.up:
            return addresses
        for result in pod.apply([Op(up, down)]):
            if result.errno:
                raise OSError(result.errno, f"link lo in the pod: {result.error}")
        return _of_loopback(pod)


def _of_loopback(pod: Rtnetlink) -> tuple[str, ...]:
    found = pod.dump("address", refresh=False).values()
    return tuple(one.address for one in found if isinstance(one, Address) and one.link == "lo")


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


def move_out(node: Rtnetlink, namespace: int, name: str, device: str, alias: str) -> bool:
    """Move a link that ``move_in`` has moved back, down and under its old name; others stay. Whether it was
    there. Raises OSError: EEXIST where the node has another of that name now."""
    home = os.open(namespaces.OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with _within(namespace) as pod:
            found = pod.get_link(name)
            if found is None or found.alias != device:
                return False
            if node.get_link(device) is not None:
                raise OSError(errno.EEXIST, f"the node has another {device} now")
            pod.move(name, home, device, alias)
            return True
    finally:
        os.close(home)


def fallen(node: Rtnetlink, device: str, mac: str, alias: str) -> None:
    """Give a link its old name that the kernel brought back when its pod's namespace went. Raises OSError."""
    for found in node.dump("link").values():
        if isinstance(found, Link) and (found.alias, found.mac) == (device, mac) and not found.up:
            node.rename(found.name, device, alias)

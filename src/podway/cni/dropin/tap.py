"""``tap``: a device for a program in the pod, such as a virtual machine's."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from podway.cni import config
from podway.cni.dropin import inner
from podway.cni.dropin.ask import Ask
from podway.cni.dropin.paths import paths
from podway.cni.errors import wrong
from podway.cni.protocol import Result
from podway.model.dropin import Piece, Tap

if TYPE_CHECKING:
    from podway.node.engine import NodeEngine

_HIGHEST = 2**32 - 2  # of a user's or group's number; the next is "nobody in particular"
_SELINUX = "/sys/fs/selinux/enforce"


def want(ask: Ask, given: Result) -> Tap:
    """Raises CniError 7, naming the key."""
    section = ask.section
    bridge = section.text("bridge")
    if bridge and (problem := config.ifname_problem(bridge)):
        raise wrong("bridge", f"{bridge!r} {problem}")
    section.text("selinuxContext")
    return Tap(
        mac=inner.own_mac(ask, given),
        mtu=config.mtu(section),
        routes=paths(given, ask.me.ifname),
        multi_queue=section.flag("multiQueue", False),
        owner=section.maybe_number("owner", highest=_HIGHEST),
        group=section.maybe_number("group", highest=_HIGHEST),
        bridge=bridge,
    )


def prepare(engine: NodeEngine, ask: Ask, piece: Piece) -> Piece:
    """A label means nothing without SELinux, and with it is another process's to give."""
    assert isinstance(piece.want, Tap)
    if ask.section.text("selinuxContext") and os.path.exists(_SELINUX):
        raise wrong(
            "selinuxContext", "can't be set by this version", "leave it out; the device has the agent's"
        )
    name = piece.want.bridge
    found = engine.kernel.link_inside(ask.call.pod_fd, name) if name else None
    if name and (found is None or found.kind != "bridge"):
        raise wrong("bridge", f"there is no bridge {name} in the pod")
    return piece


PLUGIN = inner.maker("tap", want, "tun", prepare)

"""``vlan``: the pod's end of an IEEE 802.1Q VLAN on one of the node's links."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podway.cni import config
from podway.cni.dropin import inner
from podway.cni.dropin.ask import Ask
from podway.cni.dropin.paths import paths
from podway.cni.errors import wrong
from podway.cni.protocol import Result
from podway.model.dropin import Piece, Vlan

if TYPE_CHECKING:
    from podway.node.engine import NodeEngine


def want(ask: Ask, given: Result) -> Vlan:
    """Raises CniError 7, naming the key."""
    section = ask.section
    name = inner.master(section)
    if not name:
        raise wrong("master", "is missing; it names the link that carries the VLAN")
    return Vlan(
        mtu=config.mtu(section),
        routes=paths(given, ask.me.ifname),
        master=name,
        inside=section.flag("linkInContainer", False),
        number=section.number("vlanId", highest=4094),
    )


def prepare(engine: NodeEngine, ask: Ask, piece: Piece) -> Piece:
    """Find the master, whose MAC it has."""
    return inner.with_its_mac(*inner.settled(engine, ask, piece))


PLUGIN = inner.maker("vlan", want, "vlan", prepare, needs_ipam=True)

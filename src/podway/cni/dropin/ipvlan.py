"""``ipvlan``: a link of the pod's own on one of the node's, which shares its MAC.

After another plugin it stands on that one's interface, and without ``ipam`` it takes that one's addresses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from podway.cni import config
from podway.cni.dropin import inner, ipam
from podway.cni.dropin.ask import Ask
from podway.cni.dropin.paths import paths
from podway.cni.errors import wrong
from podway.cni.protocol import Result
from podway.model.dropin import Ipvlan, Piece

if TYPE_CHECKING:
    from podway.node.engine import NodeEngine

_MODES = ("l2", "l3", "l3s")


def want(ask: Ask, given: Result) -> Ipvlan:
    """Raises CniError 7, naming the key."""
    section = ask.section
    mode = section.text("mode") or "l2"
    if mode not in _MODES:
        raise wrong("mode", f"{mode!r} is none of {', '.join(_MODES)}")
    return Ipvlan(
        mtu=config.mtu(section),
        routes=paths(given, ask.me.ifname),
        master=inner.master(section) or _before(ask),
        inside=section.flag("linkInContainer", False),
        mode=mode,
    )


def _before(ask: Ask) -> str:
    """The one interface of prevResult, "" without prevResult; at CHECK that is this plugin's own."""
    if ask.before is None or ask.call.env.get("CNI_COMMAND") != "ADD":
        return ""
    if len(ask.before.interfaces) != 1:
        raise wrong("master", "is missing, and prevResult has not one interface to stand on")
    return ask.before.interfaces[0].name


def prepare(engine: NodeEngine, ask: Ask, piece: Piece) -> Piece:
    """Find the master, whose MAC it has."""
    return inner.with_its_mac(*inner.settled(engine, ask, piece, larger=True))


def _source(ask: Ask, required: bool) -> ipam.Source:
    if ask.before is not None and ask.before.ips and not ask.section.section("ipam").text("type"):
        return ipam.Previous(ask)
    found = ipam.source(ask, required)
    if found.needs_interface and ask.section.text("mode") not in ("", "l2"):
        raise wrong("mode", "a DHCP server is heard in mode l2 alone")
    return found


PLUGIN = inner.maker("ipvlan", want, "ipvlan", prepare, needs_ipam=True, source=_source)

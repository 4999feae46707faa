"""``macvlan``: a link of the pod's own on one of the node's, with a MAC of its own on the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podway.cni import config
from podway.cni.dropin import inner
from podway.cni.dropin.ask import Ask
from podway.cni.dropin.paths import paths
from podway.cni.errors import wrong
from podway.cni.protocol import Result
from podway.model.dropin import Macvlan, Piece

if TYPE_CHECKING:
    from podway.node.engine import NodeEngine

_MODES = ("bridge", "private", "vepa", "passthru")


def want(ask: Ask, given: Result) -> Macvlan:
    """Raises CniError 7, naming the key."""
    section = ask.section
    mode = section.text("mode") or "bridge"
    if mode not in _MODES:
        raise wrong("mode", f"{mode!r} is none of {', '.join(_MODES)}")
    own = inner.own_mac(ask, given)
    return Macvlan(
        # passthru shares the master's: one that is set is the master's from then on, too
        mac="" if mode == "passthru" else own,
        mtu=config.mtu(section),
        routes=paths(given, ask.me.ifname),
        master=inner.master(section),
        inside=section.flag("linkInContainer", False),
        mode=mode,
        queue=section.number("bcqueuelen", highest=2**32 - 1),
    )


def prepare(engine: NodeEngine, ask: Ask, piece: Piece) -> Piece:
    """Find the master."""
    piece, lower = inner.settled(engine, ask, piece)
    assert isinstance(piece.want, Macvlan)
    return piece if piece.want.mac else inner.with_its_mac(piece, lower)


PLUGIN = inner.maker("macvlan", want, "macvlan", prepare)

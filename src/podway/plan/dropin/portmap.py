"""Drop-in ``portmap``: the published ports of a pod that another plugin attached."""

from __future__ import annotations

from podway.model.dropin import Piece, Ports
from podway.model.objects import AnyObject
from podway.plan import nat, ports


def on_node(piece: Piece, want: Ports) -> tuple[AnyObject, ...]:
    """Elements of the same maps as those of Podway's own pods."""
    return (
        *ports.endpoint(want.ports, want.addresses),
        *nat.callers(want.masked),
        *(ports.sysctls(want.link) if want.link else ()),
    )

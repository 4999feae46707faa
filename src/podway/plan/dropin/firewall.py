"""What ``firewall`` wants in Podway's own table; passes in others' chains are ``plan.passage``'s."""

from __future__ import annotations

from podway.model.dropin import Passed, Piece
from podway.model.objects import AnyObject
from podway.plan import ingress


def on_node(piece: Piece, want: Passed) -> tuple[AnyObject, ...]:
    """The pod's bridge, where it has a policy."""
    return ingress.bridge(want.bridge, want.ingress == "isolated") if want.bridge else ()

"""Drop-in ``bandwidth``: buckets on the veth that another plugin made."""

from __future__ import annotations

from podway.model import names
from podway.model.dropin import Piece, Shaped
from podway.model.objects import AnyObject
from podway.plan.bandwidth import shaping


def on_node(piece: Piece, want: Shaped) -> tuple[AnyObject, ...]:
    """The buckets, and the device that what the pod sends goes through."""
    device = names.ifb_link(piece.container, piece.ifname)
    return shaping(want.bandwidth, want.link, device, names.dropin_alias(piece.id), want.mtu)

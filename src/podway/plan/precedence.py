"""Which of differing wants for one key holds, where that is no conflict."""

from __future__ import annotations

from collections.abc import Mapping

from podway.model.objects import AnyObject
from podway.plan.fragments import FragmentId, Inputs


def first(wants: Mapping[FragmentId, AnyObject], inputs: Inputs) -> AnyObject | None:
    """A port that a pod on several networks publishes by each leads to its first interface, by name.

    The reference plugins make a rule for each, of which the first matches. None: a conflict of others."""
    pieces = [inputs.pieces.get(name) if kind == "piece" else None for kind, name in wants]
    owners = {piece.container if piece else "" for piece in pieces}
    if len(owners) > 1 or "" in owners or next(iter(wants.values())).key[0] != "nftelement":
        return None
    return wants[min(wants)]

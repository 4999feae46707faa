"""Which of differing wants for one key holds, where that is no conflict."""

from __future__ import annotations

from collections.abc import Mapping

from podway.model.dropin import Piece
from podway.model.objects import AnyObject, NftElement
from podway.model.resources import Endpoint
from podway.plan.fragments import FragmentId, Inputs


def first(wants: Mapping[FragmentId, AnyObject], inputs: Inputs) -> AnyObject | None:
    """A port that a pod on several networks publishes by each leads to its first interface, by name.

    The reference plugins make a rule for each, of which the first matches. None: a conflict of others."""
    value = next(iter(wants.values()))
    if not isinstance(value, NftElement) or not value.data:
        return None
    pods = {fragment: _pod(fragment, inputs) for fragment in wants}
    if None in pods.values() or len({pod.container for pod in pods.values() if pod}) > 1:
        return None
    return wants[min(wants, key=lambda fragment: (pods[fragment].ifname, fragment))]  # type: ignore[union-attr]


def _pod(fragment: FragmentId, inputs: Inputs) -> Endpoint | Piece | None:
    kind, name = fragment
    if kind == "endpoint":
        return inputs.endpoints.get(name)
    return inputs.pieces.get(name) if kind == "piece" else None

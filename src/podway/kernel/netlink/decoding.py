"""Which codec reads the objects of a kind."""

from __future__ import annotations

from podway.kernel.netlink import address, link, neighbour, route, rule, traffic
from podway.model.objects import AnyObject


def decode(kind: str, payload: bytes, names: dict[int, str]) -> AnyObject | None:
    """The object of a dump's or event's message; None when it is none of the model's."""
    if kind == "link":
        return link.decode(payload, names)
    if kind == "address":
        return address.decode(payload, names)
    if kind == "route":
        return route.decode(payload, names)
    if kind == "rule":
        return rule.decode(payload)
    if kind in ("neighbour", "fdb"):
        return neighbour.decode(payload, names) if neighbour.is_permanent(payload) else None
    if kind == "qdisc":
        return traffic.decode_qdisc(payload, names)
    if kind == "class":
        return traffic.decode_class(payload, names)
    return traffic.decode_filter(payload, names)

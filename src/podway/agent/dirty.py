"""Which parts of the kernel a kernel event makes worth a look: pure."""

from __future__ import annotations

from podway.delta.differ import CREATION_ONLY, matches
from podway.model import bgp
from podway.model.objects import ROUTE_PROTOCOL, Address, AnyObject, Desired, Key, Link, Route
from podway.model.wireguard import WG_KINDS

#: what else goes when something of a kind changes: a link that goes down takes its IPv4 routes with it
#: without an event of their own
DEPENDENTS: dict[str, frozenset[str]] = {
    "link": WG_KINDS | {"link", "address", "route", "neighbour", "fdb", "qdisc", "filter", "sysctl"},
    "address": frozenset({"address", "route"}),
    "route": frozenset({"route"}),
    "rule": frozenset({"rule"}),
    "neighbour": frozenset({"neighbour"}),
    "fdb": frozenset({"fdb"}),
    "qdisc": frozenset({"qdisc", "filter"}),
    "class": frozenset({"qdisc", "filter"}),
    "filter": frozenset({"qdisc", "filter"}),
    "sysctl": frozenset({"sysctl"}),
}
SILENT = WG_KINDS | {"sysctl"}  # what may change without an event
FACTS = "facts"
LEARNED = "learned"  # what BIRD brought into the kernel


def is_tunnel(link: AnyObject | None) -> bool:
    """Whether neighbours and forwarding entries of a link are all Podway's."""
    return isinstance(link, Link) and link.vxlan is not None


def dirty(
    kind: str, key: Key, value: AnyObject | None, deleted: bool, desired: Desired, uplinks: frozenset[str]
) -> frozenset[str]:
    """Kinds to observe again, and ``FACTS`` when the node's own uplinks may have changed."""
    want = desired.get(key)
    if want is not None:
        fine = not deleted and value is not None and matches(want, value, CREATION_ONLY.get(kind, ()))
        return frozenset() if fine else DEPENDENTS[kind]
    if isinstance(value, Route):
        if value.protocol == ROUTE_PROTOCOL and not deleted:
            return DEPENDENTS["route"]
        if bgp.is_learned(value):
            return frozenset({LEARNED})
        return frozenset({FACTS}) if value.dst in ("0.0.0.0/0", "::/0") else frozenset()
    if isinstance(value, Address) and value.address.startswith("fe80:"):
        return frozenset()  # what the kernel gives to every link by itself
    if kind in ("link", "address") and len(key) > 1:
        link = desired.get(("link", key[1]))
        on_own = isinstance(link, Link) and not link.adopted
        if kind == "link" and deleted and is_tunnel(value):
            return DEPENDENTS["link"]  # it may have stood in the way of one of Podway's
        if kind == "link":
            return DEPENDENTS["link"] | {FACTS} if key[1] in uplinks else frozenset()
        if on_own:
            return frozenset() if deleted else DEPENDENTS["address"]
        return DEPENDENTS["address"] | {FACTS}
    if kind in ("qdisc", "filter", "class") and ("link", key[1]) in desired and not deleted:
        return DEPENDENTS[kind]
    if kind in ("neighbour", "fdb") and not deleted and is_tunnel(desired.get(("link", key[1]))):
        return DEPENDENTS[kind]
    if kind == "rule" and not deleted and getattr(value, "protocol", 0) == ROUTE_PROTOCOL:
        return DEPENDENTS["rule"]
    return frozenset()

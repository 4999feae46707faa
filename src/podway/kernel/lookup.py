"""How single objects stand now, at the cost of these alone: what a pod's CHECK asks, beside a whole dump.

Each is asked for by what names it, where the kernel has such a question; else what stands on its link is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import groupby

from podway.delta.differ import on_link
from podway.kernel import sysctl
from podway.kernel.netlink import wire
from podway.kernel.nftables import Nft
from podway.kernel.rtnetlink import Rtnetlink
from podway.model.objects import (
    Actual,
    Address,
    AnyObject,
    Filter,
    Link,
    NftElement,
    Qdisc,
    Route,
    Rule,
    Sysctl,
)

#: types that can be looked up one by one; in a pod all but nftables' elements
SINGLE = (Address, Filter, Link, NftElement, Qdisc, Route, Rule, Sysctl)


def look_up(rtnetlink: Rtnetlink, nft: Nft | None, objects: Iterable[AnyObject]) -> Actual:
    """Of ``objects``, all of ``SINGLE``, those that stand, however they are now; others may come along.

    Raises OSError. ``nft`` None: there is no element among them."""
    wanted = sorted(objects, key=_type)
    found = _links(rtnetlink, wanted)
    for kind, group in groupby(wanted, key=_type):
        if kind != "link":
            found.update(_ways(rtnetlink, nft)[kind](list(group)))
    return found


def _type(one: AnyObject) -> str:
    return one.kind_name


def _ways(rtnetlink: Rtnetlink, nft: Nft | None) -> dict[str, Callable[[list[AnyObject]], Actual]]:
    def elements(some: list[AnyObject]) -> Actual:
        assert nft is not None, "no pod has elements of ours"
        return nft.find([one for one in some if isinstance(one, NftElement)])

    return {
        "nftelement": elements,
        "route": lambda some: _routes(rtnetlink, some),
        "rule": lambda _: rtnetlink.dump("rule"),
        "sysctl": lambda some: sysctl.observe(one.path for one in some if isinstance(one, Sysctl)),
        "address": lambda some: rtnetlink.on_links("address", {(one.key[1], "") for one in some}),
        "qdisc": lambda some: rtnetlink.on_links("qdisc", {(one.key[1], "") for one in some}),
        "filter": lambda some: rtnetlink.on_links("filter", {(one.key[1], one.key[2]) for one in some}),
    }


def _links(rtnetlink: Rtnetlink, some: list[AnyObject]) -> Actual:
    """Those that any of ``some`` is about, each asked for once: from here on their names are known."""
    if any(isinstance(one, Link) and one.port is not None and one.port.vlans for one in some):
        return rtnetlink.dump("link")  # VLANs come by a dump alone
    whole = {name for one in some if not _of_flags(one) for name in _names(one)} - {""}
    flags = {name for one in some if _of_flags(one) for name in _names(one)} - whole
    found = (*map(rtnetlink.get_link, whole), *map(rtnetlink.flags_of, flags))
    return {one.key: one for one in found if one is not None}


def _of_flags(one: AnyObject) -> bool:
    """Whether no more of a link is asked for than its flags."""
    if not isinstance(one, Link) or (one.promisc, one.allmulti) == (None, None):
        return False
    return one == Link(name=one.name, kind="", up=None, promisc=one.promisc, allmulti=one.allmulti)


def _names(one: AnyObject) -> tuple[str, ...]:
    if isinstance(one, Filter):
        return one.link, one.redirect
    return (one.name if isinstance(one, Link) else on_link(one),)


def _routes(rtnetlink: Rtnetlink, some: list[AnyObject]) -> Actual:
    """The kernel has no question for a route as it was entered, only for the way that a packet would take."""
    routes = [one for one in some if isinstance(one, Route)]
    protocols = {one.protocol for one in routes}
    only = protocols.pop() if len(protocols) == 1 else 0
    families = {wire.family(one.dst) for one in routes}
    return rtnetlink.dump("route", protocol=only, families=families, local=False, refresh=False)

"""How single objects stand now, at the cost of these alone: what a pod's CHECK asks, beside a whole dump.

Each is asked for by what names it, where the kernel has such a question; else what stands on its link is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import groupby

from podway.kernel import sysctl
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
    found: Actual = {}
    for kind, group in groupby(sorted(objects, key=_type), key=_type):
        found.update(_ways(rtnetlink, nft)[kind](list(group)))
    return found


def _type(one: AnyObject) -> str:
    return one.kind_name


def _ways(rtnetlink: Rtnetlink, nft: Nft | None) -> dict[str, Callable[[list[AnyObject]], Actual]]:
    def elements(some: list[AnyObject]) -> Actual:
        assert nft is not None, "no pod has elements of ours"
        return nft.find([one for one in some if isinstance(one, NftElement)])

    return {
        "link": lambda some: _links(rtnetlink, some),
        "nftelement": elements,
        "route": lambda some: _routes(rtnetlink, some),
        "rule": lambda _: rtnetlink.dump("rule"),
        "sysctl": lambda some: sysctl.observe(one.path for one in some if isinstance(one, Sysctl)),
        "address": lambda some: _on_links(rtnetlink, "address", some),
        "qdisc": lambda some: _on_links(rtnetlink, "qdisc", some),
        "filter": lambda some: _on_links(rtnetlink, "filter", some),
    }


def _links(rtnetlink: Rtnetlink, some: list[AnyObject]) -> Actual:
    if any(isinstance(one, Link) and one.port is not None and one.port.vlans for one in some):
        return rtnetlink.dump("link")  # VLANs come by a dump alone
    found = (rtnetlink.get_link(one.key[1]) for one in some)
    return {one.key: one for one in found if one is not None}


def _routes(rtnetlink: Rtnetlink, some: list[AnyObject]) -> Actual:
    """The kernel has no question for a route as it was entered, only for the way that a packet would take."""
    protocols = {one.protocol for one in some if isinstance(one, Route)}
    links = {one.dev for one in some if isinstance(one, Route)} - {""}
    for link in links:
        rtnetlink.get_link(link)  # so that its name is known
    only = protocols.pop() if len(protocols) == 1 else 0
    return rtnetlink.dump("route", protocol=only, refresh=False)


def _on_links(rtnetlink: Rtnetlink, kind: str, some: list[AnyObject]) -> Actual:
    found: Actual = {}
    for one in some:
        if isinstance(one, Filter):
            rtnetlink.get_link(one.redirect)
    for link, parent in {(one.key[1], one.parent if isinstance(one, Filter) else ""): None for one in some}:
        found.update(rtnetlink.on_link(kind, link, parent))
    return found

"""Routes that others made into pods' blocks, as checks of ``podway doctor``: they go before Podway's."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Iterable, Iterator, Mapping

from podway.kernel.preflight import Check
from podway.kernel.rtnetlink import Rtnetlink
from podway.model import bgp, stored
from podway.model.errors import PodwayError
from podway.model.objects import MAIN_TABLE, ROUTE_PROTOCOL, AnyObject, Route, family_of
from podway.store import open_store

KERNEL = 2  # RTPROT_KERNEL, linux/rtnetlink.h: goes with an address
NAMES = {3: "boot", 4: "static", 11: "zebra", 12: "bird", 16: "dhcp", 186: "bgp", 188: "ospf"}


def checks(url: str) -> Iterator[Check]:
    """A warning for each route; none while the store at ``url`` can't be read, which has its own check."""
    try:
        with contextlib.closing(open_store(url)) as store:
            records, _ = store.list("Block")
    except PodwayError:
        return
    blocks = stored.snapshot(records)[0].blocks
    owners = {cidr: block.spec.node for cidr, block in blocks.items()}
    with contextlib.closing(Rtnetlink()) as socket:
        routes = socket.dump("route").values()
    for route, block in foreign(routes, owners):
        way = f"{f' via {route.via}' if route.via else ''}{f' dev {route.dev}' if route.dev else ''}"
        who = NAMES.get(route.protocol, str(route.protocol))
        what = f"{route.dst}{way} (protocol {who}) is not Podway's, and goes before its way to pods of block"
        fix = f"end what makes it, then ip route del {route.dst}{way}"
        yield Check("routes", "warning", f"{what} {block} of node {owners[block]}", fix)


def foreign(routes: Iterable[AnyObject], owners: Mapping[str, str]) -> Iterator[tuple[Route, str]]:
    """Routes of others into one of the blocks (block → node), each with the block. Those of larger prefixes
    do no harm: a block's own route is more specific. Pure."""
    blocks = [(ipaddress.ip_network(cidr), cidr) for cidr in owners]
    for route in routes:
        if not isinstance(route, Route) or route.table != MAIN_TABLE:
            continue
        if route.protocol in (KERNEL, ROUTE_PROTOCOL) or bgp.is_learned(route):
            continue
        prefix = ipaddress.ip_network(route.dst)
        for network, cidr in blocks:
            if family_of(route.dst) == network.version and prefix.subnet_of(network):  # type: ignore[arg-type]
                yield route, cidr

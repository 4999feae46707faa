"""Routes of a result as what a pod holds."""

from __future__ import annotations

import ipaddress

from podway.cni.errors import CONFIGURATION, CniError
from podway.cni.protocol import Result, Route
from podway.model import names
from podway.model.dropin import Path
from podway.model.objects import family_of
from podway.plan.attach.pod import IPV6_METRIC

DEFAULTS = {4: "0.0.0.0/0", 6: "::/0"}
ON_LINK = "0.0.0.0"  # as a route's gateway: none, where IPAM gives it one of its own; the kernel's way too
SCOPE_LINK = 253
_SCOPES = {0: "global", 200: "site", SCOPE_LINK: "link", 254: "host"}  # RT_SCOPE_*, linux/rtnetlink.h


def paths(given: Result, ifname: str) -> tuple[Path, ...]:
    """A route without a gateway goes by that of the first address of its family, as in the reference.

    One that another interface of the pod has too stands beside that, after it, as in the reference."""
    gateways: dict[int, str] = {}
    for one in given.ips:
        if one.gateway:
            gateways.setdefault(family_of(one.address), one.gateway)
    metric = names.route_metric(ifname)
    return tuple(_path(route, gateways, metric) for route in given.routes)


def _path(route: Route, gateways: dict[int, str], metric: int) -> Path:
    try:
        prefix = ipaddress.ip_network(route.dst, strict=False)
    except ValueError:
        raise CniError(CONFIGURATION, f"routes: {route.dst!r} is not a prefix") from None
    scope = route.scope or 0
    if scope not in _SCOPES:
        raise CniError(CONFIGURATION, f"routes: {scope} is no scope of routes (0, 200, 253 or 254)")
    if metric and prefix.version == 6:
        metric += IPV6_METRIC
    gateway = route.gw or gateways.get(prefix.version, "")
    return Path(
        dst=str(prefix),
        gw=gateway if gateway != ON_LINK else "",
        mtu=route.mtu or 0,
        advmss=route.advmss or 0,
        priority=route.priority or metric,
        table=route.table or 0,
        scope=_SCOPES[scope],
    )

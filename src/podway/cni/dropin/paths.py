"""Routes of a result as what a pod holds."""

from __future__ import annotations

import ipaddress

from podway.cni.errors import CONFIGURATION, CniError
from podway.cni.protocol import Result, Route
from podway.model.dropin import Path
from podway.model.objects import family_of

DEFAULTS = {4: "0.0.0.0/0", 6: "::/0"}
_SCOPES = {0: "global", 200: "site", 253: "link", 254: "host"}  # RT_SCOPE_*, linux/rtnetlink.h


def paths(given: Result) -> tuple[Path, ...]:
    """A route without a gateway goes by that of the first address of its family, as in the reference."""
    gateways: dict[int, str] = {}
    for one in given.ips:
        if one.gateway:
            gateways.setdefault(family_of(one.address), one.gateway)
    return tuple(_path(route, gateways) for route in given.routes)


def _path(route: Route, gateways: dict[int, str]) -> Path:
    try:
        prefix = ipaddress.ip_network(route.dst, strict=False)
    except ValueError:
        raise CniError(CONFIGURATION, f"routes: {route.dst!r} is not a prefix") from None
    scope = route.scope or 0
    if scope not in _SCOPES:
        raise CniError(CONFIGURATION, f"routes: {scope} is no scope of routes (0, 200, 253 or 254)")
    return Path(
        dst=str(prefix),
        gw=route.gw or gateways.get(prefix.version, ""),
        mtu=route.mtu or 0,
        advmss=route.advmss or 0,
        priority=route.priority or 0,
        table=route.table or 0,
        scope=_SCOPES[scope],
    )

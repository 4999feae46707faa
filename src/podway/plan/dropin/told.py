"""What a result says of a pod's interface after a whole chain: CHECK holds it against what stands.

Plugins after the one that made the interface may take addresses and routes out of the result, or put more
into it. What is there as its maker made it must be so still; of the rest it is enough that it stands.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from podway.model.dropin import BridgePod, InPod, Path, Piece, Ptp
from podway.model.objects import MAIN_TABLE, Actual, Address, AnyObject, Key, Route
from podway.plan.dropin import pod

_ALONE = ("/32", "/128")


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """``addresses`` of the interface, with prefix length, and their ``subnets``; all ``routes`` as far as the
    result says of them."""

    addresses: tuple[str, ...]
    subnets: tuple[str, ...]
    routes: tuple[Path, ...]

    def sought(self, ifname: str) -> tuple[AnyObject, ...]:
        """What is to be looked up in the pod: the addresses, and routes of whatever protocol."""
        addresses = (Address(link=ifname, address=one) for one in self.addresses)
        return (*addresses, *(Route(dst=dst, protocol=0) for dst, _ in self._ways()))

    def missing(self, found: Actual, ifname: str) -> Key | None:
        """The key of the first that isn't there among what a look-up found, the kernel's own table left out.

        A route may be in any table, where plugins move them; a default route may have any gateway, as for the
        reference plugins."""
        for address in self.addresses:
            if ("address", ifname, address) not in found:
                return ("address", ifname, address)
        routes = [one for one in found.values() if isinstance(one, Route)]
        for dst, gw in self._ways():
            if not any(one.dst == dst and gw in ("", one.via) for one in routes):
                return ("route", str(MAIN_TABLE), dst, gw)
        return None

    def _ways(self) -> Iterator[tuple[str, str]]:
        """(prefix, gateway or "") that lead somewhere: also to the subnets, by the kernel's own routes."""
        for subnet in self.subnets:
            if not subnet.endswith(_ALONE):
                yield subnet, ""
        for one in self.routes:
            yield one.dst, "" if one.dst.endswith("/0") else one.gw


def required(piece: Piece, objects: tuple[AnyObject, ...], told: Told, ours: bool) -> tuple[AnyObject, ...]:
    """Those of a piece's objects in the pod that the result still has. ``ours``: how its addresses and routes
    were made is known."""
    ways = piece.want.routes if isinstance(piece.want, BridgePod | Ptp | InPod) else ()
    gone = {pod.route(way, piece.ifname).key for way in ways if not ours or not _is_told(way, told)}
    return tuple(
        one
        for one in objects
        if one.key not in gone and (not isinstance(one, Address) or (ours and one.address in told.addresses))
    )


def _is_told(way: Path, told: Told) -> bool:
    return any(
        one.dst == way.dst and one.gw in ("", way.gw) and one.priority in (0, way.priority)
        for one in told.routes
    )

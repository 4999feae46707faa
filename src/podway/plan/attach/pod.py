"""Inside the pod: what its namespace holds, the same for every kind of attachment.

Applied at ADD and verified by CHECK; never watched, because an open socket would keep a dead pod's
namespace alive.
"""

from __future__ import annotations

from podway.model.objects import Address, AnyObject, Link, Route, Sysctl, family_of
from podway.model.resources import Endpoint

DEFAULT_ROUTES = {4: "0.0.0.0/0", 6: "::/0"}
IPV6_METRIC = 1024  # IP6_RT_PRIO_USER, include/uapi/linux/ipv6_route.h: what 0 becomes
BOOT_PROTOCOL = 3  # RTPROT_BOOT: the pod's routes are the pod's, not this node's


def _route(dst: str, via: str, dev: str) -> Route:
    return Route(
        dst=dst,
        via=via,
        dev=dev,
        protocol=BOOT_PROTOCOL,
        scope="global" if via or family_of(dst) == 6 else "link",
        metric=IPV6_METRIC if family_of(dst) == 6 else 0,
    )


def inside(endpoint: Endpoint) -> tuple[AnyObject, ...]:
    """Loopback, the interface, its addresses, the default route and the routes asked for."""
    name = endpoint.ifname
    objects: list[AnyObject] = [Link(name="lo", kind="")]
    if any(family_of(address) == 6 for address in endpoint.addresses):
        objects += [
            # Runtimes start namespaces with IPv6 off; an address then is refused with EACCES.
            Sysctl(path=f"net/ipv6/conf/{name}/disable_ipv6", value="0"),
            Sysctl(path=f"net/ipv6/conf/{name}/accept_ra", value="0"),
        ]
    objects.append(Link(name=name, kind="veth", mac=endpoint.mac, mtu=endpoint.mtu))
    objects += [Address(link=name, address=address, nodad=True) for address in endpoint.addresses]
    objects += [_route(DEFAULT_ROUTES[family_of(gateway)], gateway, name) for gateway in endpoint.gateways]
    objects += [_route(route.dst, route.gw, name) for route in endpoint.routes]
    return tuple(objects)

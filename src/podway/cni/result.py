"""Results: from an Endpoint, into and out of the shape of each spec version, and after another plugin.

| versions | shape |
|---|---|
| 0.1.0, 0.2.0 | ``ip4`` and ``ip6``, one each; no interfaces |
| 0.3.0, 0.3.1, 0.4.0 | ``interfaces``, ``ips[].version`` |
| 1.0.0 | no ``ips[].version`` |
| 1.1.0 | interface ``mtu``, ``socketPath``, ``pciID``; route ``mtu``, ``advmss``, ``priority`` and more |
"""

from __future__ import annotations

from collections.abc import Mapping

from podway.cni.errors import wrong
from podway.cni.protocol import (
    VERSIONS,
    Address,
    Dns,
    Interface,
    Result,
    Route,
    at_least,
)
from podway.cni.reader import Section
from podway.cni.runtime import interface
from podway.model.objects import family_of
from podway.model.resources import Endpoint
from podway.node.requests import AttachRequest
from podway.plan.attach import host_mac

_EVERYWHERE = {4: "0.0.0.0/0", 6: "::/0"}
_LARGEST = 2**32 - 1  # netlink's, of a route's metrics
_ROUTE_NUMBERS = ("mtu", "advmss", "priority", "table", "scope")  # since 1.1.0

Shape = dict[str, object]


def of_endpoint(endpoint: Endpoint, request: AttachRequest, dns: Dns) -> Result:
    """The result of one attachment: bridge (if any), host link, the pod's interface; its addresses, routes.

    ``sandbox`` is the path as this call gave it; the endpoint may be known by another one."""
    interfaces = [Interface(name=endpoint.bridge)] if endpoint.bridge else []
    interfaces += [_host_link(endpoint)] if endpoint.host_link else []
    pod = len(interfaces)
    interfaces.append(
        Interface(name=endpoint.ifname, mac=endpoint.mac, mtu=endpoint.mtu, sandbox=request.namespace)
    )
    gateways = {family_of(gateway): gateway for gateway in endpoint.gateways}
    ips = tuple(
        Address(address=one, gateway=gateways.get(family_of(one), ""), interface=pod)
        for one in endpoint.addresses
    )
    routes = [Route(dst=one.dst, gw=one.gw) for one in endpoint.routes]
    if request.default_route:
        told = {route.dst for route in routes}
        defaults = [Route(dst=_EVERYWHERE[family], gw=gw) for family, gw in gateways.items()]
        routes = [route for route in defaults if route.dst not in told] + routes
    return Result(interfaces=tuple(interfaces), ips=ips, routes=tuple(routes), dns=dns)


def _host_link(endpoint: Endpoint) -> Interface:
    return Interface(name=endpoint.host_link, mac=host_mac(endpoint))


# --- after another plugin ---------------------------------------------------------------------------


def refuse_collision(previous: Result, request: AttachRequest, version: str) -> None:
    """Podway makes an interface of its own: it can follow a plugin that made others, and no default route.

    Raises CniError 7 that says what the chain already has."""
    fix = "put podway-cni first in the chain, or alone"
    for one in previous.interfaces:
        if one.sandbox and one.name == request.ifname:
            raise wrong("prevResult", f"a plugin before podway-cni has already made {one.name}", fix)
    if not at_least(version, "0.3.0") and previous.ips:
        raise wrong("prevResult", f"a result of cniVersion {version} has no room for a second address", fix)
    for ip in previous.ips:
        if ip.interface is None or not 0 <= ip.interface < len(previous.interfaces):
            raise wrong("prevResult", f"{ip.address} is on no interface; it may be meant for this one", fix)
    for route in previous.routes:
        if request.default_route and route.dst in _EVERYWHERE.values():
            raise wrong("prevResult", "a plugin before podway-cni has already set the default route", fix)


def merge(previous: Result, own: Result) -> Result:
    """Everything of both; indexes follow, links named the same on the host are one, own DNS settings win."""
    interfaces = list(previous.interfaces)
    moved: dict[int, int] = {}
    for index, one in enumerate(own.interfaces):
        same = [at for at, old in enumerate(interfaces) if (old.name, old.sandbox) == (one.name, one.sandbox)]
        if not same:
            interfaces.append(one)
        moved[index] = same[0] if same else len(interfaces) - 1
    ips = [
        Address(
            address=one.address,
            gateway=one.gateway,
            interface=None if one.interface is None else moved[one.interface],
        )
        for one in own.ips
    ]
    return Result(
        interfaces=tuple(interfaces),
        ips=previous.ips + tuple(ips),
        routes=previous.routes + own.routes,
        dns=own.dns if own.dns != Dns() else previous.dns,
    )


# --- out --------------------------------------------------------------------------------------------


def encode(result: Result, version: str) -> Shape:
    """The JSON object of a result in the shape of ``version``."""
    shape: Shape = {"cniVersion": version}
    if at_least(version, "0.3.0"):
        shape["interfaces"] = [_interface(one, version) for one in result.interfaces]
        shape["ips"] = [_address(one, version) for one in result.ips]
        shape["routes"] = [_route(one, version) for one in result.routes]
    else:
        for family in (4, 6):
            first = next((one for one in result.ips if family_of(one.address) == family), None)
            if first:
                routes = [_route(one, version) for one in result.routes if family_of(one.dst) == family]
                shape[f"ip{family}"] = _present(ip=first.address, gateway=first.gateway, routes=routes)
    dns = result.dns
    shape["dns"] = _present(
        nameservers=list(dns.nameservers),
        domain=dns.domain,
        search=list(dns.search),
        options=list(dns.options),
    )
    return shape


def trimmed(shape: Shape, version: str) -> Shape:
    """Without what is empty, as the reference plugins print it: they keep ``dns`` before 1.0.0."""
    keep = () if at_least(version, "1.0.0") else ("dns",)
    return {name: value for name, value in shape.items() if value or name in keep}


def _present(**fields: object) -> Shape:
    """The fields that say something. 0 does, for a number that may be absent."""
    return {name: value for name, value in fields.items() if value not in ("", None, [])}


def _interface(one: Interface, version: str) -> Shape:
    shape = _present(name=one.name, mac=one.mac, sandbox=one.sandbox)
    if at_least(version, "1.1.0"):
        shape |= _present(mtu=one.mtu or None, socketPath=one.socket_path, pciID=one.pci_id)
    return shape


def _address(one: Address, version: str) -> Shape:
    shape = _present(interface=one.interface, address=one.address, gateway=one.gateway)
    if not at_least(version, "1.0.0"):
        shape["version"] = str(family_of(one.address))
    return shape


def _route(one: Route, version: str) -> Shape:
    shape = _present(dst=one.dst, gw=one.gw)
    if at_least(version, "1.1.0"):
        shape |= _present(**{name: getattr(one, name) for name in _ROUTE_NUMBERS})
    return shape


# --- in ---------------------------------------------------------------------------------------------


def previous(section: Section, version: str) -> Result | None:
    """``prevResult`` of a configuration, None when absent or null. Raises CniError 7."""
    if section.raw("prevResult") is None:
        return None
    given = section.section("prevResult")
    shape = given.text("cniVersion") or version
    if shape not in VERSIONS:
        raise wrong(given.at("cniVersion"), f"{shape} is not supported")
    if not at_least(shape, "0.3.0"):
        return _decode_oldest(given)
    return Result(
        interfaces=tuple(_decode_interface(one) for one in given.sections("interfaces")),
        ips=tuple(_decode_address(one, "address") for one in given.sections("ips")),
        routes=tuple(decode_route(one) for one in given.sections("routes")),
        dns=_decode_dns(given.section("dns")),
    )


def _decode_oldest(given: Section) -> Result:
    families = [given.section(key) for key in ("ip4", "ip6") if given.raw(key) is not None]
    routes = [decode_route(one) for family in families for one in family.sections("routes")]
    return Result(
        ips=tuple(_decode_address(one, "ip") for one in families),
        routes=tuple(routes),
        dns=_decode_dns(given.section("dns")),
    )


def _decode_interface(one: Section) -> Interface:
    return Interface(
        name=one.text("name"),
        mac=one.text("mac"),
        mtu=one.number("mtu"),
        sandbox=one.text("sandbox"),
        socket_path=one.text("socketPath"),
        pci_id=one.text("pciID"),
    )


def _decode_address(one: Section, key: str) -> Address:
    found = one.text(key)
    if not found:
        raise wrong(one.at(key), "is missing")
    try:
        interface(found)
    except ValueError:
        raise wrong(one.at(key), f"{found!r} is no address") from None
    return Address(address=found, gateway=one.text("gateway"), interface=one.maybe_number("interface"))


def decode_route(one: Section) -> Route:
    """A route as results and IPAM configurations have it. Raises CniError 7."""
    numbers: Mapping[str, int | None] = {
        name: one.maybe_number(name, highest=_LARGEST) for name in _ROUTE_NUMBERS
    }
    return Route(dst=one.text("dst"), gw=one.text("gw"), **numbers)


def _decode_dns(one: Section) -> Dns:
    return Dns(
        nameservers=one.texts("nameservers"),
        domain=one.text("domain"),
        search=one.texts("search"),
        options=one.texts("options"),
    )

"""Pieces of drop-in plugins out of the kernel, when the node's database was lost.

Their links tell by the alias whose they are and by which plugin; the rest is read from the link, in the pod
and in the sets. What has no link of its own (a published port) is not found, and goes with the next pass.
"""

from __future__ import annotations

import msgspec

from podway.kernel.facade import DOOMED_GROUP, Kernel
from podway.model import names
from podway.model.dropin import AnyWant, BridgeDevice, BridgePod, Path, Piece, Ptp, VlanGateway
from podway.model.objects import MAIN_TABLE, Actual, Link, NftElement, Route
from podway.node.rebuild import Inside, addresses_on, inside_of
from podway.plan.attach.pod import BOOT_PROTOCOL


def pieces(kernel: Kernel, boot_id: str) -> list[Piece]:
    """What the kernel shows of them."""
    actual = kernel.observe()
    found = []
    for link in actual.values():
        if not isinstance(link, Link) or link.group == DOOMED_GROUP:
            continue
        parts = (link.alias or "").removeprefix(names.DROPIN_ALIAS).split("/")
        if len(parts) != 4 or not (link.alias or "").startswith(names.DROPIN_ALIAS):
            continue
        piece = _piece(kernel, actual, link, parts)
        if piece is not None:
            found.append(msgspec.structs.replace(piece, boot_id=boot_id))
    return found


def _piece(kernel: Kernel, actual: Actual, link: Link, parts: list[str]) -> Piece | None:
    container, ifname, configuration, plugin = parts
    if plugin == "bridge-device":
        device = BridgeDevice(
            name=link.name,
            mac=link.mac or "",
            mtu=link.mtu or 0,
            addresses=addresses_on(actual, link.name),
            promisc=bool(link.promisc),
            vlan_filtering=bool(link.bridge and link.bridge.vlan_filtering),
        )
        return Piece(container="", ifname=ifname, configuration=configuration, want=device)
    if plugin == "bridge-vlan":
        own = _vlan_gateway(actual, link)
        return Piece(container="", ifname=ifname, configuration=configuration, want=own) if own else None
    inside = inside_of(kernel, link.name, ifname)
    if inside is None:
        return None  # nobody can enter the pod any more
    addresses = addresses_on(inside.objects, ifname)
    want = _bridged(actual, link, ifname, inside, addresses) if plugin == "bridge" else None
    if plugin == "ptp":
        want = _ptp(actual, link, ifname, inside, addresses)
    if want is None:
        return None
    return Piece(
        container=container,
        ifname=ifname,
        configuration=configuration,
        want=want,
        addresses=addresses,
        namespace=inside.path,
        namespace_id=inside.identity,
    )


def _vlan_gateway(actual: Actual, link: Link) -> VlanGateway | None:
    """By its own end; the port has the same alias."""
    ports = (
        one
        for one in actual.values()
        if isinstance(one, Link) and one.alias == link.alias and one.master and one.port is not None
    )
    port = next(ports, None)
    if port is None or port.port is None or link.master:
        return None
    return VlanGateway(
        name=link.name,
        bridge=port.master or "",
        port=port.name,
        mac=link.mac or "",
        mtu=link.mtu or 0,
        addresses=addresses_on(actual, link.name),
        vlans=port.port.vlans or (),
    )


def _bridged(actual: Actual, link: Link, ifname: str, inside: Inside, addresses: tuple[str, ...]) -> AnyWant:
    own = inside.objects["link", ifname]
    assert isinstance(own, Link)
    return BridgePod(
        bridge=link.master or "",
        link=link.name,
        mac=own.mac or "",
        mtu=link.mtu or 0,
        routes=_routes(inside, ifname),
        gateways=addresses_on(actual, link.master or ""),
        hairpin=bool(link.port and link.port.hairpin),
        isolated=bool(link.port and link.port.isolated),
        masquerade=_leaves(actual, addresses),
        mac_guard=("nftelement", "bridge", "mac_guarded", link.name) in actual,
        up=bool(own.up),
        vlans=(link.port.vlans or ()) if link.port else (),
    )


def _ptp(
    actual: Actual, link: Link, ifname: str, inside: Inside, addresses: tuple[str, ...]
) -> AnyWant | None:
    own = inside.objects["link", ifname]
    gateways = tuple(one.partition("/")[0] for one in addresses_on(actual, link.name))
    if not isinstance(own, Link) or len(gateways) != len(addresses):
        return None
    return Ptp(
        link=link.name,
        mac=own.mac or "",
        gateways=gateways,
        mtu=link.mtu or 0,
        routes=tuple(one for one in _routes(inside, ifname) if not one.src),
        masquerade=_leaves(actual, addresses),
    )


def _routes(inside: Inside, ifname: str) -> tuple[Path, ...]:
    """Those that were given to the pod, not the kernel's own."""
    return tuple(
        Path(
            dst=one.dst,
            gw=one.via,
            mtu=one.mtu,
            priority=one.metric,
            table=0 if one.table == MAIN_TABLE else one.table,
            scope=one.scope,
            src=one.src,
        )
        for one in inside.objects.values()
        if isinstance(one, Route) and one.dev == ifname and one.protocol == BOOT_PROTOCOL
    )


def _leaves(actual: Actual, addresses: tuple[str, ...]) -> bool:
    own = {address.partition("/")[0] for address in addresses}
    sets = ("leaving4", "leaving6")
    return any(isinstance(o, NftElement) and o.set in sets and o.value[0] in own for o in actual.values())

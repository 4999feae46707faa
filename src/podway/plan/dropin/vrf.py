"""Drop-in ``vrf``: a pod's interface in a VRF of the pod's, with its routes in the VRF's table."""

from __future__ import annotations

import msgspec

from podway.model import names
from podway.model.dropin import InVrf, Piece
from podway.model.objects import MAIN_TABLE, Actual, Address, AnyObject, Link, VrfOptions, family_of
from podway.plan.dropin.pod import KERNEL_PROTOCOL, Change, is_link_local, of_interface


def in_pod(piece: Piece, want: InVrf) -> tuple[AnyObject, ...]:
    """The device, if it is made for this interface, and the interface in it with what the change of master
    takes from it: its IPv6 addresses and its routes."""
    device = Link(
        name=want.name, kind="vrf", alias=names.dropin_alias(piece.id), vrf=VrfOptions(table=want.table)
    )
    mine = Link(name=piece.ifname, kind=want.kind, up=None, master=want.name)
    return (*((device,) if want.made else ()), mine, *want.addresses, *want.routes)


def settled(want: InVrf, ifname: str, actual: Actual) -> InVrf:
    """With what the interface has in the pod (``actual``), which loses it when its master changes; ``table``
    is chosen, if it has to be: the first one of no VRF."""
    mine = actual["link", ifname]
    assert isinstance(mine, Link)
    tables = {one.vrf.table for one in actual.values() if isinstance(one, Link) and one.vrf is not None}
    device = actual.get(("link", want.name))
    table = want.table or next(number for number in range(1, 2**32) if number not in tables)
    if isinstance(device, Link) and device.vrf is not None:
        table = device.vrf.table
    found = of_interface(actual, ifname)
    return msgspec.structs.replace(
        want,
        table=table,
        made=device is None,
        kind=mine.kind,
        addresses=_addresses(actual, ifname),
        found=found,
        # the kernel itself moves the routes to the subnets
        routes=tuple(
            msgspec.structs.replace(one, table=table) for one in found if one.protocol != KERNEL_PROTOCOL
        ),
    )


def _addresses(actual: Actual, ifname: str) -> tuple[Address, ...]:
    """Those that the interface loses with its master: IPv6's."""
    return tuple(
        msgspec.structs.replace(one, tentative=None, passing=None)
        for one in actual.values()
        if isinstance(one, Address)
        and one.link == ifname
        and family_of(one.address) == 6
        and not is_link_local(one.address)
    )


def recognized(name: str, ifname: str, actual: Actual) -> InVrf | None:
    """What the reference plugin made in a pod (``actual``); None where the interface isn't in that VRF."""
    mine, device = (actual.get(("link", one)) for one in (ifname, name))
    if (
        not isinstance(mine, Link)
        or not isinstance(device, Link)
        or device.vrf is None
        or mine.master != name
    ):
        return None
    table = device.vrf.table
    return InVrf(
        name=name,
        table=table,
        made=True,
        kind=mine.kind,
        addresses=_addresses(actual, ifname),
        found=tuple(
            msgspec.structs.replace(one, table=MAIN_TABLE) for one in of_interface(actual, ifname, table)
        ),
    )


def as_found(piece: Piece, want: InVrf, actual: Actual, foreign: bool = False) -> Change:
    """Out of the VRF, with its routes where they were. The last interface that leaves takes along the device
    that Podway made, or (``foreign``) the reference plugin, which marks nothing."""
    links = [one for one in actual.values() if isinstance(one, Link)]
    within = {one.name for one in links if one.master == want.name}
    objects: tuple[AnyObject, ...] = ()
    if piece.ifname in within:
        out = Link(name=piece.ifname, kind=want.kind, up=None, master="")
        routes = (one for one in want.found if one.protocol != KERNEL_PROTOCOL)
        objects = (out, *want.addresses, *routes)
    if not within <= {piece.ifname}:
        return objects, ()
    device = (one for one in links if one.name == want.name and one.vrf is not None)
    return objects, tuple(
        one for one in device if foreign or (one.alias or "").startswith(names.DROPIN_ALIAS)
    )

"""Drop-in ``vrf``: a pod's interface in a VRF of the pod's, with its routes in the VRF's table."""

from __future__ import annotations

import msgspec

from podway.model import names
from podway.model.dropin import InVrf, Piece
from podway.model.objects import Actual, Address, AnyObject, Link, VrfOptions, family_of
from podway.plan.dropin.pod import KERNEL_PROTOCOL, is_link_local, of_interface


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
        addresses=tuple(
            msgspec.structs.replace(one, tentative=None, passing=None)
            for one in actual.values()
            if isinstance(one, Address)
            and one.link == ifname
            and family_of(one.address) == 6
            and not is_link_local(one.address)
        ),
        found=found,
        # the kernel itself moves the routes to the subnets
        routes=tuple(
            msgspec.structs.replace(one, table=table) for one in found if one.protocol != KERNEL_PROTOCOL
        ),
    )

"""Drop-in plugins whose link stands in the pod alone: dummy, macvlan, ipvlan, vlan, tap, host-device."""

from __future__ import annotations

from podway.model import names
from podway.model.dropin import HostDevice, InPod, Ipvlan, Macvlan, Piece, Tap, Vlan
from podway.model.links import AnyOptions, IpvlanOptions, MacvlanOptions, TapOptions, VlanOptions
from podway.model.objects import AnyObject, Link, Sysctl, family_of
from podway.plan.dropin.pod import interface

#: tag of a Want → IFLA_INFO_KIND
KINDS = {"dummy": "dummy", "macvlan": "macvlan", "ipvlan": "ipvlan", "vlan": "vlan", "tap": "tun"}


def in_pod(piece: Piece, want: InPod) -> tuple[AnyObject, ...]:
    """The link with its settings, addresses and routes; one that others answer for says where it is now."""
    link = Link(
        name=piece.ifname,
        kind=KINDS[piece.plugin],
        alias=names.dropin_alias(piece.id),
        mac=want.mac or None,
        mtu=want.mtu or None,
        master=want.bridge or None if isinstance(want, Tap) else None,
        options=_options(want),
    )
    announced = _announced(piece) if isinstance(want, Macvlan | Ipvlan) else ()
    return (*announced, *interface(link, piece.addresses, want.routes))


def _options(want: InPod) -> AnyOptions | None:
    if isinstance(want, Macvlan):
        return MacvlanOptions(mode=want.mode, queue=want.queue or None)
    if isinstance(want, Ipvlan):
        return IpvlanOptions(mode=want.mode)
    if isinstance(want, Vlan):
        return VlanOptions(number=want.number)
    if isinstance(want, Tap):
        return TapOptions(owner=want.owner, group=want.group, multi_queue=want.multi_queue)
    return None


def moved(piece: Piece, want: HostDevice) -> tuple[AnyObject, ...]:
    """A link of the node's, whose alias is its name there, as the reference plugin has it."""
    if not want.device:
        return ()
    link = Link(name=piece.ifname, kind=want.kind, alias=want.device, mac=want.mac or None)
    return interface(link, piece.addresses, want.routes)


def _announced(piece: Piece) -> tuple[AnyObject, ...]:
    """Gratuitous ARP and neighbour advertisements: a switch must learn where the address is now."""
    if not piece.addresses:
        return ()
    settings = [Sysctl(path=f"net/ipv4/conf/{piece.ifname}/arp_notify", value="1")]
    if any(family_of(address) == 6 for address in piece.addresses):
        settings.append(Sysctl(path=f"net/ipv6/conf/{piece.ifname}/ndisc_notify", value="1"))
    return tuple(settings)

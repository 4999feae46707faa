"""Drop-in ``bridge``: the bridge itself, which stays, and a veth per pod."""

from __future__ import annotations

from collections.abc import Iterator

from podway.model import names
from podway.model.dropin import BridgeDevice, BridgePod, Piece, VlanGateway
from podway.model.objects import Address, AnyObject, BridgeOptions, BridgePort, Link, Peer, family_of
from podway.plan import nat, spoofing
from podway.plan.dropin.pod import interface


def device(piece: Piece, want: BridgeDevice) -> tuple[AnyObject, ...]:
    """The bridge with its gateways; of an adopted one only what was asked for."""
    own = not want.adopted
    six = own and _is_six(want.addresses)
    return (
        Link(
            name=want.name,
            kind="bridge",
            alias=names.dropin_alias(piece.id) if own else None,
            # pinned: otherwise the bridge takes the lowest MAC of its ports and changes it with every pod
            mac=want.mac if own else None,
            mtu=(want.mtu or None) if own else None,
            promisc=want.promisc or None,
            link_local=False if six else None,
            bridge=BridgeOptions(vlan_filtering=want.vlan_filtering or None) if own else None,
            adopted=want.adopted,
        ),
        *_addresses(want.name, want.mac if six else "", want.addresses),
    )


def vlan_gateway(piece: Piece, want: VlanGateway) -> tuple[AnyObject, ...]:
    """Both ends of the node's own link into a VLAN."""
    alias, six, mtu = names.dropin_alias(piece.id), _is_six(want.addresses), want.mtu or None
    peer = Peer(name=want.port, mtu=mtu)
    own_local = False if six else None
    return (
        Link(
            name=want.name, kind="veth", alias=alias, mac=want.mac, mtu=mtu, link_local=own_local, peer=peer
        ),
        Link(
            name=want.port,
            kind="veth",
            alias=alias,
            mtu=mtu,
            master=want.bridge,
            port=BridgePort(vlans=want.vlans),
        ),
        *_addresses(want.name, want.mac if six else "", want.addresses),
    )


def _is_six(addresses: tuple[str, ...]) -> bool:
    return any(family_of(address) == 6 for address in addresses)


def _addresses(link: str, mac: str, addresses: tuple[str, ...]) -> Iterator[AnyObject]:
    """With ``mac``, the link-local one of its own, as of every bridge of Podway's: without a usable one the
    node can't ask for its pods' neighbours, and the kernel's would be tentative for a second."""
    own_local = [f"{names.link_local(mac)}/64"] if mac else []
    for address in (*own_local, *addresses):
        yield Address(link=link, address=address, nodad=True)


def on_node(piece: Piece, want: BridgePod) -> tuple[AnyObject, ...]:
    """The veth, with its other end in the pod."""
    mtu = want.mtu or None
    return (
        Link(
            name=want.link,
            kind="veth",
            alias=names.dropin_alias(piece.id),
            mac=names.host_mac(piece.container, piece.ifname),
            mtu=mtu,
            master=want.bridge,
            port=BridgePort(hairpin=want.hairpin, isolated=want.isolated, vlans=want.vlans or None),
            peer=Peer(name=piece.ifname, mac=want.mac, mtu=mtu, namespace=piece.id),
        ),
        *(nat.leaving(piece.addresses) if want.masquerade else ()),
        *(spoofing.mac_alone(want.link, want.mac) if want.mac_guard else ()),
    )


def in_pod(piece: Piece, want: BridgePod) -> tuple[AnyObject, ...]:
    """The pod's end; one that is to stay down has no settings."""
    link = Link(name=piece.ifname, kind="veth", mac=want.mac, mtu=want.mtu or None, up=want.up)
    return interface(link, piece.addresses, want.routes, want.dad) if want.up else (link,)

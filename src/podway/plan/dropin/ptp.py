"""Drop-in ``ptp``: a veth per pod, whose host's side has the gateway's address; a host route to the pod."""

from __future__ import annotations

import ipaddress

import msgspec

from podway.model import names
from podway.model.dropin import Path, Piece, Ptp
from podway.model.objects import Address, AnyObject, Link, Peer, family_of
from podway.plan import nat
from podway.plan.attach.routed import host_route
from podway.plan.dropin.pod import interface


def _full(address: str) -> str:
    """A bare address as a prefix of itself alone."""
    return f"{address}/{32 if family_of(address) == 4 else 128}"


def on_node(piece: Piece, want: Ptp) -> tuple[AnyObject, ...]:
    """The veth, the gateways on it and the routes to the pod."""
    mtu = want.mtu or None
    link = Link(
        name=want.link,
        kind="veth",
        alias=names.dropin_alias(piece.id),
        mac=names.host_mac(piece.container, piece.ifname),
        mtu=mtu,
        master="",
        peer=Peer(name=piece.ifname, mac=want.mac, mtu=mtu, namespace=piece.id),
    )
    return (
        link,
        *(Address(link=want.link, address=_full(gateway), nodad=True) for gateway in want.gateways),
        *(_to_pod(address, want.link) for address in piece.addresses),
        *(nat.leaving(piece.addresses) if want.masquerade else ()),
    )


def _to_pod(address: str, link: str) -> AnyObject:
    scope = "global" if family_of(address) == 6 else "host"
    return msgspec.structs.replace(host_route(address, link), scope=scope)


def in_pod(piece: Piece, want: Ptp) -> tuple[AnyObject, ...]:
    """The gateway is the only neighbour: even the pod's own subnet lies behind it. Of addresses in one subnet
    the pod sends from the first."""
    link = Link(name=piece.ifname, kind="veth", mac=want.mac, mtu=want.mtu or None)
    ways: dict[str, Path] = {}
    for address, gateway in zip(piece.addresses, want.gateways, strict=True):
        own = ipaddress.ip_interface(address)
        neighbour = Path(dst=_full(gateway), scope="link", src=str(own.ip))
        for way in (neighbour, Path(dst=str(own.network), gw=gateway, src=str(own.ip))):
            ways.setdefault(way.dst, way)
    others = (_onlink(path, want.gateways) for path in want.routes)
    return interface(link, piece.addresses, (*ways.values(), *others), connected=False)


def _onlink(path: Path, gateways: tuple[str, ...]) -> Path:
    """By another next hop than the gateway: nothing says that it is on the link, so the route does."""
    return msgspec.structs.replace(path, onlink=bool(path.gw) and path.gw not in gateways)

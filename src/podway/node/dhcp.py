"""DHCP leases of pods: obtained, extended, given back. What waits for servers works on any thread but the
writer's; what is to be kept of it is the caller's to journal."""

from __future__ import annotations

import os
import time
from typing import NamedTuple

import msgspec

from podway.ipam import dhcp
from podway.ipam.dhcp import ACK, NAK, OFFER, Message
from podway.kernel import namespaces
from podway.kernel.dhcp import Client
from podway.model.dropin import Leased, Piece

PATIENCE = 2.0  # seconds for an answer of a server


def now() -> float:
    """Seconds since boot, sleep included: what leases are kept in."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _xid() -> int:
    return int.from_bytes(os.urandom(4), "big")


class Station(NamedTuple):
    """Who asks, and what goes with each message. ``broadcast``: answers come to all, for it hears none to the
    address that it is given (RFC 2131, section 4.1)."""

    mac: str
    options: dict[int, bytes]
    broadcast: bool = False


def obtain(
    fd: int, ifname: str, who: Station, patience: float = PATIENCE, address: str = ""
) -> Leased | None:
    """A lease for an interface that has none, of ``address`` if the server likes; None if nobody answers.

    Raises OSError, and ValueError when the server's answer can't be used."""
    with Client(fd, ifname) as client:
        xid, began = _xid(), now()
        requested = _packed(address) if address else b""
        asked = dhcp.options_of(who.options, requested=requested)
        discover = _message(dhcp.DISCOVER, xid, who, asked)
        offered = client.ask(discover, lambda one: one.type == OFFER and dhcp.SERVER in one.options, patience)
        if offered is None:
            return None
        offer, _ = offered
        server = offer.options[dhcp.SERVER]
        chosen = dhcp.options_of(who.options, requested=_packed(offer.yours), server=server)
        request = _message(dhcp.REQUEST, xid, who, chosen)
        granted = client.ask(request, lambda one: one.type in (ACK, NAK), patience)
        if granted is None or granted[0].type == NAK:
            return None
        return _leased(granted[0], granted[1], who, began)


def _message(kind: int, xid: int, who: Station, options: dict[int, bytes]) -> Message:
    return Message(type=kind, xid=xid, mac=who.mac, options=options, broadcast=who.broadcast)


def confirmed(fd: int, ifname: str, who: Station, address: str, patience: float = PATIENCE) -> Leased | None:
    """The lease of an interface that has its address already, of which nothing else is known: asked for as by
    a client that was started anew (INIT-REBOOT, RFC 2131 4.3.2). None if no server confirms it.

    Raises OSError, and ValueError when the server's answer can't be used."""
    with Client(fd, ifname) as client:
        xid, began = _xid(), now()
        asked = dhcp.options_of(who.options, requested=_packed(address))
        request = _message(dhcp.REQUEST, xid, who, asked)
        granted = client.ask(request, lambda one: one.type in (ACK, NAK), patience)
    if granted is None or granted[0].type == NAK or granted[0].yours != address:
        return None
    return _leased(granted[0], granted[1], who, began)


def _packed(address: str) -> bytes:
    return bytes(int(part) for part in address.split("."))


def _leased(ack: Message, sender: str, who: Station, began: float) -> Leased:
    renew, rebind, ends = dhcp.terms(ack)
    servers, routers = ack.addresses(dhcp.SERVER), ack.addresses(dhcp.ROUTER)
    return Leased(
        address=dhcp.prefix(ack),
        gateway=routers[0] if routers else "",
        routes=tuple(dhcp.routes(ack)),
        server=servers[0] if servers else dhcp.EVERYBODY,
        server_mac=sender,
        mac=who.mac,
        options=who.options,
        broadcast=who.broadcast,
        obtained_at=began,
        renew_at=began + renew,
        rebind_at=began + rebind,
        expires_at=began + ends,
        asked_at=began,
    )


def extend(piece: Piece, lease: Leased, rebind: bool) -> Leased | None:
    """Ask the lease's server, or all, for more time. The lease as it is now: with new times, as it was but
    for ``asked_at``, or ``lost`` (refused, and the address can't be had anew). None: the pod is gone."""
    fd = namespaces.open_same(piece.namespace, piece.namespace_id)
    if fd is None:
        return None
    began = now()
    who = Station(lease.mac, lease.options, lease.broadcast)
    try:
        with Client(fd, piece.ifname) as client:
            request = Message(
                type=dhcp.REQUEST, xid=_xid(), mac=lease.mac, client=bare(lease), options=lease.options
            )
            place = () if rebind else (lease.server, lease.server_mac)
            answer = client.ask(request, lambda one: one.type in (ACK, NAK), PATIENCE, *place)
        if answer is None:
            return msgspec.structs.replace(lease, asked_at=began)
        if answer[0].type == ACK:
            return _kept(_leased(*answer, who, began), lease)
        again = obtain(fd, piece.ifname, who, address=bare(lease))
        if again is not None and again.address == lease.address:
            return again
        if again is not None:
            _send_release(fd, piece.ifname, again)
        return msgspec.structs.replace(lease, lost="the server refused to extend it")
    except (ValueError, OSError):  # no use can be made of the answer; the interface is down, or went
        return msgspec.structs.replace(lease, asked_at=began)
    finally:
        os.close(fd)


def _kept(new: Leased, old: Leased) -> Leased:
    """An answer about another address than the pod has is of no use."""
    return new if new.address == old.address else msgspec.structs.replace(old, asked_at=new.obtained_at)


def bare(lease: Leased) -> str:
    """The address without its prefix length."""
    return lease.address.partition("/")[0]


def release(piece: Piece, lease: Leased) -> None:
    """Tell the server that the address is free, if the pod can still be entered. Nobody answers to that."""
    fd = namespaces.open_same(piece.namespace, piece.namespace_id)
    if fd is None:
        return
    try:
        _send_release(fd, piece.ifname, lease)
    except OSError:
        return  # without its interface the pod can't tell; the lease runs out
    finally:
        os.close(fd)


def _send_release(fd: int, ifname: str, lease: Leased) -> None:
    own = {dhcp.CLIENT_ID: lease.options[dhcp.CLIENT_ID], dhcp.SERVER: _packed(lease.server)}
    message = Message(type=dhcp.RELEASE, xid=_xid(), mac=lease.mac, client=bare(lease), options=own)
    with Client(fd, ifname) as client:
        client.send(message, lease.server, lease.server_mac)

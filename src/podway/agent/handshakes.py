"""When this node's WireGuard tunnels met their peers last, and what that says of one that doesn't answer."""

from __future__ import annotations

import socket

from podway.kernel.wireguard import Wireguard
from podway.model.objects import Route
from podway.model.wireguard import WgPeer
from podway.plan.planner import Planner
from podway.plan.transport import wireguard

REJECT_AFTER = 180  # seconds after which a handshake's keys carry nothing more: WireGuard's REJECT_AFTER_TIME

Met = dict[tuple[str, str], int]  # (link, public key) → seconds since 1970


def look(planner: Planner) -> Met:
    """Of every WireGuard device that a network has a way by, in the calling thread's namespace."""
    ways = [way for held in tuple(planner.inputs.held.values()) for way in held.ways]
    links = {wireguard.device_name(way) for way in ways if way.transport == "wireguard"}
    if not links:
        return {}
    kernel = Wireguard(socket.if_nametoindex)
    try:
        return {(one.device.link, key): at for one in kernel.look(links) for key, at in one.met.items()}
    except OSError:
        return {}  # the reconciler says what is wrong with it
    finally:
        kernel.close()


def tunnel(planner: Planner, peer: str, network: str) -> tuple[str, str] | None:
    """(link, public key) of the WireGuard tunnel that a peer's blocks of a network are sent by now."""
    for block in planner.blocks_of(peer):
        planned = planner.fragment("block", block.cidr) if block.spec.network == network else ()
        sent = {one.dev for one in planned if isinstance(one, Route)}
        for one in planned:
            if isinstance(one, WgPeer) and one.link in sent:
                return one.link, one.public_key
    return None


def words(at: int, now: float, carrier: str) -> str:
    """What the time of the last handshake (0: there never was one) says of a tunnel by ``carrier``."""
    age = max(0, int(now - at))
    if not at:
        return f"no handshake yet: {carrier} doesn't come back, or the peer doesn't know this node's key"
    if age >= REJECT_AFTER:
        return f"no handshake for {age} s: {carrier} doesn't come back, or one of the two has another key now"
    return f"the last handshake was {age} s ago: the keys were right, and {carrier} passed then"

"""WireGuard: what a device can hold.

Keys are base64 of 32 bytes, as ``wg`` prints them. No value here ever holds a private key: a device's is
named by the public key that follows from it.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from podway.model.object import Key, Object


class WireguardOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a WireGuard link's packets look underway: UDP port, family of the outer addresses."""

    port: int
    underlay: int


class WgDevice(Object, frozen=True, kw_only=True):
    """What a WireGuard link is set to: its public key, and the UDP port that it listens on."""

    kind_name: ClassVar[str] = "wgdevice"

    link: str
    public_key: str
    port: int

    @property
    def key(self) -> Key:
        return ("wgdevice", self.link)


class WgPeer(Object, frozen=True, kw_only=True):
    """Who may send to a WireGuard link, and where it is: address and UDP port. ``keepalive`` in seconds."""

    kind_name: ClassVar[str] = "wgpeer"

    link: str
    public_key: str
    endpoint: str
    port: int
    keepalive: int

    @property
    def key(self) -> Key:
        return ("wgpeer", self.link, self.public_key)


class WgAllowed(Object, frozen=True, kw_only=True):
    """A prefix that is one peer's on a WireGuard link: to be sent there, and to be taken from there alone."""

    kind_name: ClassVar[str] = "wgallowed"

    link: str
    prefix: str
    peer: str  # public key

    @property
    def key(self) -> Key:
        return ("wgallowed", self.link, self.prefix)


#: the kinds that one look at a device tells of
WG_KINDS = frozenset({"wgdevice", "wgpeer", "wgallowed"})

"""Firewalls of other software that forwarded packets pass, and Podway's rules in them."""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec

from podway.model.object import Key, Object


class Where(msgspec.Struct, frozen=True):
    """A chain. ``family`` is nftables' ("ip", "ip6", "inet"), of iptables-legacy ip or ip6."""

    firewall: Literal["nftables", "iptables-legacy"]
    family: str
    table: str
    chain: str

    def __str__(self) -> str:
        return f"{self.firewall} {self.family} {self.table} {self.chain}"


class Gate(msgspec.Struct, frozen=True):
    """A chain that drops what is forwarded unless a rule accepts it, and by what: its policy, or a rule."""

    where: Where
    because: str


class Passage(Object, frozen=True, kw_only=True):
    """A rule in another software's chain: what has ``prefix`` as its ``side`` passes.

    ``side``: saddr, daddr, or "answers": daddr in a connection that stands or is expected. ``first``: it does
    not pass but goes through this chain of the administrator's, before any pass."""

    kind_name: ClassVar[str] = "passage"

    where: Where
    side: str
    prefix: str
    first: str = ""

    @property
    def key(self) -> Key:
        first = (self.first,) if self.first else ()
        return ("passage", *str(self.where).split(" "), self.side, self.prefix, *first)

"""Addresses as the reference plugin host-local gives them: ranges, in turn, after the last one given. Pure.

A range set is where one address comes from; a configuration with two sets asks for two addresses.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterator, Sequence

import msgspec

from podway.model.errors import Conflict, Exhausted, InvalidInput

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class Range(msgspec.Struct, frozen=True, kw_only=True):
    """Addresses ``first`` to ``last`` of ``subnet``, all as text; ``gateway`` is never given out."""

    subnet: str
    first: str
    last: str
    gateway: str

    @property
    def length(self) -> int:
        """The prefix length that an address of it carries."""
        return int(self.subnet.rpartition("/")[2])

    def holds(self, address: str) -> bool:
        """Whether ``address`` may be given out of it, but for the gateway."""
        one, first, last = (ipaddress.ip_address(text) for text in (address, self.first, self.last))
        return one.version == first.version and int(first) <= int(one) <= int(last)


RangeSet = tuple[Range, ...]


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """An address, bare, and the range that it comes from."""

    address: str
    range: Range

    @property
    def prefixed(self) -> str:
        """With the subnet's prefix length."""
        return f"{self.address}/{self.range.length}"


def _bounds(one: Range) -> tuple[int, int]:
    return int(ipaddress.ip_address(one.first)), int(ipaddress.ip_address(one.last))


def in_turn(ranges: RangeSet, last: str) -> Iterator[Given]:
    """Every address of a set once, beginning after ``last`` ("" or one of elsewhere: at the start)."""
    at = next((index for index, one in enumerate(ranges) if last and one.holds(last)), None)
    if at is None:
        order = [(one, *_bounds(one)) for one in ranges]
    else:
        middle = int(ipaddress.ip_address(last))
        first, end = _bounds(ranges[at])
        others = (*ranges[at + 1 :], *ranges[:at])
        order = [(ranges[at], middle + 1, end), *((one, *_bounds(one)) for one in others)]
        order.append((ranges[at], first, middle))
    for one, first, end in order:
        kind = type(ipaddress.ip_address(one.first))
        for number in range(first, end + 1):
            address = str(kind(number))
            if address != one.gateway:
                yield Given(address=address, range=one)


def choose(ranges: RangeSet, taken: Collection[str], last: str, wanted: str = "") -> Given:
    """The next free address of a set, or ``wanted``. Raises InvalidInput, Conflict, Exhausted."""
    if wanted:
        return _wanted(ranges, taken, wanted)
    for given in in_turn(ranges, last):
        if given.address not in taken:
            return given
    raise Exhausted(f"no address is left in {describe(ranges)}", fix="delete containers, or add a range")


def _wanted(ranges: RangeSet, taken: Collection[str], wanted: str) -> Given:
    one = next((one for one in ranges if one.holds(wanted)), None)
    if one is None:
        raise InvalidInput(f"address {wanted} is not in {describe(ranges)}")
    if wanted == one.gateway:
        raise InvalidInput(f"address {wanted} is the gateway of {one.subnet}", fix="ask for another")
    if wanted in taken:
        raise Conflict(f"address {wanted} is given to another container already", describe(ranges))
    return Given(address=wanted, range=one)


def describe(ranges: RangeSet) -> str:
    """For people: "10.1.0.2-10.1.0.254, …"."""
    return ", ".join(f"{one.first}-{one.last}" for one in ranges)


def assign(sets: Sequence[RangeSet], wanted: Collection[str]) -> list[str]:
    """Which of the addresses asked for each set is to give, "" for any. Raises InvalidInput."""
    left = list(wanted)
    found = []
    for ranges in sets:
        mine = next((address for address in left if any(one.holds(address) for one in ranges)), "")
        found.append(mine)
        if mine:
            left.remove(mine)
    if left:
        raise InvalidInput(
            f"address {', '.join(left)} is in none of the ranges", "; ".join(map(describe, sets))
        )
    return found

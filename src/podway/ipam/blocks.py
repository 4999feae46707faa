"""Cutting pools into blocks, and what a block keeps back. Pure."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache

from podway.model.objects import family_of
from podway.model.resources import BLOCK_SIZES, Network, Pool
from podway.model.validation import IpAddress, reserved_range

BRIDGE_FIRST = 2  # after the network's own address and the gateway


def block_size(network: Network, pool: Pool) -> int:
    """Prefix length of a pool's blocks."""
    if pool.block_size is not None:
        return pool.block_size
    return BLOCK_SIZES[network.spec.attach][0 if family_of(pool.cidr) == 4 else 1]


def number_of_blocks(network: Network, family: int) -> int:
    """How many blocks the pools of a family have, claimed or not."""
    pools = [pool for pool in network.spec.pools if family_of(pool.cidr) == family]
    return sum(1 << (block_size(network, one) - int(one.cidr.rpartition("/")[2])) for one in pools)


def candidates(
    network: Network, claimed: Collection[str], family: int, node: str, holding: str = ""
) -> Iterator[str]:
    """Blocks that may be claimed, best first; never enumerates a pool's blocks, nor what is claimed of it.

    The search starts where the node's name hashes to, so that nodes which start together rarely meet.
    ``claimed``: prefixes of any length that the block may not overlap. ``holding``: only the block that
    holds this address."""
    for pool in network.spec.pools:
        if family_of(pool.cidr) != family:
            continue
        whole = ipaddress.ip_network(pool.cidr)
        size = block_size(network, pool)
        step = 1 << (whole.max_prefixlen - size)
        count = 1 << (size - whole.prefixlen)
        base = int(whole.network_address)
        taken = _taken([cidr for cidr in claimed if family_of(cidr) == family], base, step, count)
        start = int.from_bytes(hashlib.sha256(node.encode()).digest()[:8], "big") % count
        turns = [(start, count), (0, start)]
        if holding:
            address = ipaddress.ip_address(holding)
            if address not in whole:
                continue
            number = (int(address) - base) // step
            turns = [(number, number + 1)]
        for first, end in turns:
            for number in _free(taken, first, end):
                yield _block(base + number * step, size, family)


def _taken(claimed: Collection[str], base: int, step: int, count: int) -> list[tuple[int, int]]:
    """The (first, last) numbers of a pool's blocks that ``claimed`` lie in or cover, in order."""
    spans: list[tuple[int, int]] = []
    for cidr in claimed:
        low, high = _ends(cidr)
        if high >= base and low < base + count * step:
            spans.append((max(low - base, 0) // step, (high - base) // step))
    return sorted(spans)


def _free(taken: Sequence[tuple[int, int]], first: int, end: int) -> Iterator[int]:
    """The numbers from ``first`` up to ``end`` that no span holds; a span is passed in one step."""
    number = first
    for low, high in taken:
        if low >= end:
            break
        yield from range(number, min(low, end))
        number = max(number, high + 1)
    yield from range(number, end)


def _block(number: int, size: int, family: int) -> str:
    kind = ipaddress.IPv4Address if family == 4 else ipaddress.IPv6Address
    return f"{kind(number)}/{size}"


def gateway_of(block: str) -> str:
    """The address that a bridge holds in a block: its first."""
    return str(ipaddress.ip_network(block).network_address + 1)


@lru_cache(maxsize=4096)
def _ends(block: str) -> tuple[int, int]:
    network = ipaddress.ip_network(block)
    return int(network.network_address), int(network.broadcast_address)


def usable_range(network: Network, block: str) -> tuple[int, int]:
    """First and last address for pods.

    A bridge keeps back the network's, the gateway, the last; a routed block its first. A single address is
    borrowed: its owner has kept back what has to be."""
    first, last = _ends(block)
    if first == last:
        return first, last
    # a routed block's first is its node's own end of a tunnel, should the network get one
    return (first + BRIDGE_FIRST, last - 1) if network.spec.attach == "bridge" else (first + 1, last)


@lru_cache(maxsize=256)
def _reserved(network: Network, family: int) -> tuple[tuple[int, int], ...]:
    pools = [pool for pool in network.spec.pools if family_of(pool.cidr) == family]
    ranges = [reserved_range(text) for pool in pools for text in pool.reserved]
    return tuple((int(first), int(last)) for first, last in ranges)


def after_reserved(network: Network, family: int, number: int) -> int:
    """``number``, or the first address after the reserved ranges that it lies in."""
    moved = True
    while moved:
        moved = False
        for low, high in _reserved(network, family):
            if low <= number <= high:
                number, moved = high + 1, True
    return number


def is_usable(network: Network, block: str, address: IpAddress) -> bool:
    """Whether a pod may have ``address``."""
    number = int(address)
    first, last = usable_range(network, block)
    return first <= number <= last and after_reserved(network, address.version, number) == number

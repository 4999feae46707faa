"""Who has which address of this node's blocks, who had one lately, and which is next. Pure.

Addresses are given in turn (the one after the last), so that one is used again as late as possible.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from podway.ipam.blocks import after_reserved, gateway_of, is_usable, usable_range
from podway.model.errors import Conflict, Exhausted, InvalidInput
from podway.model.names import ROUTED_GATEWAYS
from podway.model.objects import family_of
from podway.model.resources import Network

IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
Range = tuple[int, int]


class Choice(msgspec.Struct, frozen=True):
    """Addresses with prefix length, and one gateway for each."""

    addresses: tuple[str, ...]
    gateways: tuple[str, ...]


class NeedBlock(msgspec.Struct, frozen=True):
    """No block of the node has room: claim one of ``family``; ``holding`` names an address it must hold."""

    family: int
    holding: str = ""


class Allocations:
    """The node's own book. ``holders``: address → endpoint id; ``cooling``: address → seconds until free."""

    def __init__(self) -> None:
        self.holders: dict[str, str] = {}
        self.cooling: dict[str, float] = {}
        self._last: dict[str, int] = {}

    def hold(self, addresses: Iterable[str], holder: str) -> None:
        """Enter addresses (bare) as given. Raises Conflict when another holds one."""
        for address in addresses:
            known = self.holders.get(address)
            if known is not None and known != holder:
                raise Conflict(f"address {address} is held by {known}", holder)
        for address in addresses:
            self.holders[address] = holder
            self.cooling.pop(address, None)

    def release(self, addresses: Iterable[str], until: float | None) -> dict[str, float]:
        """Take addresses back; ``until`` None lets them be used again at once. Returns what cools down."""
        cooling: dict[str, float] = {}
        for address in addresses:
            if self.holders.pop(address, None) is not None and until is not None:
                cooling[address] = until
        self.cooling |= cooling
        return cooling

    def choose(
        self,
        network: Network,
        blocks: Sequence[str],
        holder: str,
        now: float,
        ips: Sequence[str] = (),
        ranges: Sequence[Sequence[tuple[str, str]]] = (),
    ) -> Choice | NeedBlock:
        """Choose and hold one address of every family of the network, as requested where it is.

        ``blocks``: CIDRs that this node owns of this network. Raises InvalidInput, Conflict, Exhausted."""
        chosen: list[str] = []
        for family in _families(network):
            wanted = [ip.partition("/")[0] for ip in ips if family_of(ip) == family]
            limits = limits_of(ranges, family)
            found = self._choose_one(network, blocks, family, wanted, limits, now)
            if isinstance(found, NeedBlock):
                return found
            chosen.append(found)
        self.hold([address.partition("/")[0] for address in chosen], holder)
        for address in chosen:
            interface = ipaddress.ip_interface(address)
            self._last[str(interface.network)] = int(interface.ip)
        return _as_seen(network, chosen)

    def _choose_one(
        self,
        network: Network,
        blocks: Sequence[str],
        family: int,
        wanted: Sequence[str],
        limits: Sequence[Range],
        now: float,
    ) -> str | NeedBlock:
        mine = [block for block in blocks if family_of(block) == family]
        if wanted:
            return self._requested(network, mine, wanted[0])
        for block in mine:
            address = self._next(network, block, limits, now)
            if address is not None:
                return address
        return NeedBlock(family)

    def _requested(self, network: Network, blocks: Sequence[str], address: str) -> str | NeedBlock:
        """A requested address may still be cooling: whoever asks for it by name knows what it was."""
        parsed = ipaddress.ip_address(address)
        pools = [pool for pool in network.spec.pools if parsed in ipaddress.ip_network(pool.cidr)]
        if not pools:
            listed = ", ".join(pool.cidr for pool in network.spec.pools)
            raise InvalidInput(
                f"address {address} is in no pool of network {network.name}", fix=f"pools: {listed}"
            )
        known = self.holders.get(address)
        if known is not None:
            raise Conflict(
                f"address {address} is held by {known}", f"network {network.name}", "ask for another"
            )
        for block in blocks:
            if parsed in ipaddress.ip_network(block):
                if not is_usable(network, block, parsed):
                    what = f"address {address} is kept back: network, gateway, last or reserved"
                    raise InvalidInput(what, f"block {block}", "ask for another")
                return f"{address}/{block.rpartition('/')[2]}"
        return NeedBlock(parsed.version, holding=address)

    def _next(self, network: Network, block: str, limits: Sequence[Range], now: float) -> str | None:
        """The next free address of a block after the last given, or None. Never walks more than is held."""
        first, last = usable_range(network, block)
        spans = [(max(first, low), min(last, high)) for low, high in limits] if limits else [(first, last)]
        spans = [span for span in spans if span[0] <= span[1]]
        after = self._last.get(block, first - 1)
        family = family_of(block)
        kind = ipaddress.IPv4Address if family == 4 else ipaddress.IPv6Address
        length = block.rpartition("/")[2]
        # what is left of each span after the last one given, then all of them from the beginning
        turns = [(max(low, after + 1), high) for low, high in spans] + spans
        for low, high in turns:
            number = after_reserved(network, family, low)
            while number <= high:
                text = str(kind(number))
                if text not in self.holders and self.cooling.get(text, 0.0) <= now:
                    return f"{text}/{length}"
                number = after_reserved(network, family, number + 1)
        return None


def _as_seen(network: Network, chosen: Sequence[str]) -> Choice:
    """Addresses with the prefix length that the pod sees, and its next hops."""
    if network.spec.attach == "bridge":
        gateways = [gateway_of(str(ipaddress.ip_interface(address).network)) for address in chosen]
        return Choice(tuple(chosen), tuple(gateways))
    bare = [ipaddress.ip_interface(address).ip for address in chosen]
    return Choice(
        tuple(f"{address}/{address.max_prefixlen}" for address in bare),
        tuple(ROUTED_GATEWAYS[address.version] for address in bare),
    )


def exhausted(network: Network, family: int, usage: Mapping[str, int], held: int) -> Exhausted:
    """The error when no block can be claimed: the pools, their use, what to do."""
    pools = [pool.cidr for pool in network.spec.pools if family_of(pool.cidr) == family]
    blocks = ", ".join(f"{node} {count}" for node, count in sorted(usage.items())) or "none"
    lent = ", and no other node lends one" if network.spec.attach == "routed" else ""
    return Exhausted(
        f"no IPv{family} address is left in {', '.join(pools)}: all blocks are claimed ({blocks}), "
        f"{held} addresses of this node are held or cooling down{lent}",
        f"network {network.name}",
        "add a pool, delete pods or nodes that are gone, or see podway ipam check",
    )


def _families(network: Network) -> list[int]:
    families: list[int] = []
    for pool in network.spec.pools:
        if family_of(pool.cidr) not in families:
            families.append(family_of(pool.cidr))
    return sorted(families)


def limits_of(ranges: Sequence[Sequence[tuple[str, str]]], family: int) -> list[Range]:
    """Of the ranges that were asked for, those of a family."""
    return [_range(r) for group in ranges for r in group if family_of(r[0]) == family]


def _range(ends: tuple[str, str]) -> Range:
    return int(ipaddress.ip_address(ends[0])), int(ipaddress.ip_address(ends[1]))

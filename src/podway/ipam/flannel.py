"""Which lease in Flannel's etcd is this node's, and what to write so that it is. Pure.

A node has one lease: one block of each family that Flannel's configuration has. It is taken by
create-if-absent, written again when it says something else than what is so or has half its life left, and
a second one of this node's (it moved to another block, or its agent was cut off) is dropped.

Flannel's daemons delete the forwarding entry of a lease that goes, by its MAC, whoever else uses that MAC
(seen). So whenever a lease with this node's MAC went, its own is written again: every daemon then makes the
entry anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from podway.ipam.blocks import candidates
from podway.model.flannel import LEASE_SECONDS, Config, Lease
from podway.model.objects import family_of
from podway.model.resources import Network


class Held(msgspec.Struct, frozen=True):
    """A lease as found. ``seconds``: what is left of its life, asked for own ones only."""

    lease: Lease
    version: str
    seconds: float = LEASE_SECONDS


class Me(msgspec.Struct, frozen=True):
    """This node, as its lease is to say. ``macs`` are empty with host-gw."""

    node: str
    addresses: dict[int, str]
    macs: dict[int, str]

    def has(self, lease: Lease) -> bool:
        """Whether a lease is this node's: by its VTEP, which follows from its name; else by its address."""
        mac = lease.macs.get(4)
        if self.macs.get(4) and mac:
            return mac == self.macs[4]
        return bool(self.addresses.get(4)) and lease.addresses.get(4) == self.addresses[4]


class Take(msgspec.Struct, frozen=True):
    """Create it if nobody has its subnets."""

    lease: Lease


class Write(msgspec.Struct, frozen=True):
    """Replace its value and life, if it still has ``version``."""

    lease: Lease
    version: str


class Drop(msgspec.Struct, frozen=True):
    """Delete it, if it still has ``version``."""

    lease: Lease
    version: str


Action = Take | Write | Drop


def own(found: Mapping[str, Held], blocks: Sequence[str], me: Me) -> Held | None:
    """This node's lease: the one of a block that it holds before any other of its own."""
    mine = [held for held in found.values() if me.has(held.lease)]
    of_blocks = (held for held in mine if set(held.lease.subnets.values()) & set(blocks))
    return next(of_blocks, mine[0] if mine else None)


def next_action(
    network: Network,
    config: Config,
    found: Mapping[str, Held],
    blocks: Sequence[str],
    claimed: Sequence[str],
    me: Me,
    mend: bool,
) -> Action | str | None:
    """What to do next: an action, after which it is asked again; None when all is so; a text when stuck.

    ``found`` by key; ``blocks`` this node's, ``claimed`` all of the store's."""
    missing = [family for family in config.ranges if family not in me.addresses]
    if missing:
        return f"this node has no IPv{missing[0]} address, and Flannel's nodes reach each other by one"
    mine = own({key: held for key, held in found.items() if _fits(held.lease, config)}, blocks, me)
    if mine is None:
        return _take(network, config, found, blocks, claimed, me)
    for held in found.values():
        if me.has(held.lease) and held.lease.key != mine.lease.key:
            return Drop(held.lease, held.version)
    wanted = _lease(network, config, mine.lease.subnets, me)
    if mend or wanted != mine.lease or mine.seconds < LEASE_SECONDS / 2:
        return Write(wanted, mine.version)
    return None


def _fits(lease: Lease, config: Config) -> bool:
    """Whether Flannel's configuration still allows a lease."""
    if lease.subnets.keys() != config.ranges.keys():
        return False
    return all(config.ranges[family].holds(subnet) for family, subnet in lease.subnets.items())


def _lease(network: Network, config: Config, subnets: dict[int, str], me: Me) -> Lease:
    return Lease(
        subnets=subnets,
        addresses={family: me.addresses[family] for family in config.ranges},
        macs={family: mac for family, mac in me.macs.items() if family in config.ranges},
        transport=network.spec.transport,
        vni=config.vni if network.spec.transport == "vxlan" else 0,
    )


def _take(
    network: Network,
    config: Config,
    found: Mapping[str, Held],
    blocks: Sequence[str],
    claimed: Sequence[str],
    me: Me,
) -> Take | str:
    """A lease of the blocks that this node holds, and of free ones where it holds none."""
    leased = {subnet for held in found.values() for subnet in held.lease.subnets.values()}
    subnets: dict[int, str] = {}
    for family, limits in config.ranges.items():
        held = [block for block in blocks if family_of(block) == family]
        taken = [block for block in held if block in leased]
        if taken:
            whose = next(one.lease for one in found.values() if taken[0] in one.lease.subnets.values())
            address = whose.addresses.get(family, "a node that names no address")
            return f"block {taken[0]} of this node is leased to {address} in Flannel's etcd"
        free = (block for block in held if limits.holds(block))
        unclaimed = candidates(network, [*leased, *claimed], family, me.node)
        new = (block for block in unclaimed if limits.holds(block))
        chosen = next(free, None) or next(new, None)
        if chosen is None:
            return f"no IPv{family} block is left between Flannel's SubnetMin and SubnetMax"
        subnets[family] = chosen
    return Take(_lease(network, config, subnets, me))

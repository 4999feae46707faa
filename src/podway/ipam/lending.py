"""Which addresses of a node's blocks others may borrow, and which a node could borrow of others. Pure.

Only once a pool has no block left: until then everybody who needs an address claims a block.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Callable, Collection, Iterable, Sequence

from podway.ipam.blocks import candidates, is_usable, number_of_blocks
from podway.model.objects import family_of
from podway.model.resources import Block, Network, Snapshot

OFFERED = 4  # of one block: so many nodes find one at the same time
WALK = 1024  # addresses of a block, from its last, that are looked at for what to offer


def lends(network: Network) -> bool:
    """Whether an address is reached elsewhere than its block is: each pod has a route, on other nodes too."""
    spec = network.spec
    return spec.attach == "routed" and spec.transport != "none" and not spec.interop


def is_used_up(
    network: Network, family: int, claimed: Collection[str], avoid: Iterable[str], node: str
) -> bool:
    """Whether no block of ``family`` is left to claim. ``claimed``, ``avoid``: prefixes, others' too."""
    if 2 * len(claimed) < number_of_blocks(network, family):
        return False  # without looking at each
    return next(candidates(network, [*claimed, *avoid], family, node), None) is None


def spare(network: Network, block: str, is_taken: Callable[[str], bool]) -> list[str]:
    """Addresses that nobody has, from the end of a block: as many as tell how many to offer."""
    prefix = ipaddress.ip_network(block)
    found: list[str] = []
    for back in range(min(prefix.num_addresses, WALK)):
        address = prefix[-1 - back]
        if not is_taken(str(address)) and is_usable(network, block, address):
            found.append(str(address))
        if len(found) == 2 * OFFERED:
            break
    return found


def offers(
    spare: Sequence[str], offered: frozenset[str], borrowed: Collection[str], used_up: bool
) -> frozenset[str]:
    """What to offer of a block: OFFERED that nobody has borrowed, but at most half of what is left.

    A few more stay, so that not every return is a write; those that are borrowed stay in any case."""
    kept = offered & frozenset(borrowed)
    idle = sorted(offered - kept)
    wanted = min(OFFERED, (len(spare) + len(idle) + 1) // 2) if used_up else 0
    if len(idle) < wanted:
        return offered | {*spare[: wanted - len(idle)]}
    return kept | {*idle[: wanted + OFFERED if used_up else 0]}


def borrowable(
    network: Network,
    family: int,
    snapshot: Snapshot,
    node: str,
    wanted: str = "",
    limits: Sequence[tuple[int, int]] = (),
) -> list[tuple[str, str]]:
    """(Address, its block) of what others offer; ``wanted``: only that one; ``limits``: only within these.

    The order is another on each node, so that nodes which borrow at once rarely meet."""
    found = [
        (address, block.cidr)
        for block in snapshot.blocks.values()
        if block.offers and _may_lend(block, network, family, snapshot, node)
        for address in block.offers
        if address not in snapshot.borrows
        and (not wanted or address == wanted)
        and (not limits or any(low <= int(ipaddress.ip_address(address)) <= high for low, high in limits))
    ]
    return sorted(found, key=lambda one: hashlib.sha256(f"{node} {one[0]}".encode()).digest())


def _may_lend(block: Block, network: Network, family: int, snapshot: Snapshot, node: str) -> bool:
    spec = block.spec
    mine = spec.node == node or spec.node not in snapshot.nodes
    return (
        not mine
        and (spec.network, spec.attach) == (network.name, "routed")
        and family_of(block.cidr) == family
    )

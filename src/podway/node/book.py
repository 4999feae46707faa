"""Addresses of this node's pods: allocations from its blocks, and a new block when they are full."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence

from podway.ipam.blocks import number_of_blocks
from podway.ipam.state import Allocations, Choice, NeedBlock, exhausted, limits_of
from podway.model.errors import Conflict, Exhausted, InvalidInput, PodwayError, Unavailable
from podway.model.objects import family_of
from podway.model.resources import Endpoint, Network
from podway.node.cluster import Cluster
from podway.node.database import Database
from podway.node.lending import OFFER, Lending
from podway.plan.planner import Planner

EMPTY = 300.0  # seconds that a block stays empty until it is given back

Ranges = Sequence[Sequence[tuple[str, str]]]


def bare(addresses: Iterable[str]) -> list[str]:
    """Addresses without their prefix length."""
    return [address.partition("/")[0] for address in addresses]


class AddressBook:
    """``claimed`` is called after a new block, so that its gateway stands before its first pod."""

    def __init__(
        self,
        cluster: Cluster,
        database: Database,
        planner: Planner,
        now: Callable[[], float],
        claimed: Callable[[], None],
    ) -> None:
        self._cluster = cluster
        self._planner = planner
        self._now = now
        self._claimed = claimed
        self.allocations = Allocations()
        self.lending = Lending(cluster, database, planner, self.allocations, now)
        self._kept_back: dict[str, str] = {}
        self._empty: dict[str, float] = {}  # block → since when nobody has an address of it
        self._leaving: set[str] = set()  # blocks that are being given back: nobody gets an address of them
        database.forget_cooled(now())
        self.allocations.cooling = database.cooling()

    def network(self, name: str) -> Network:
        """Raises InvalidInput when there is none of this name, Unavailable when this node can't serve it."""
        network = self._cluster.snapshot.networks.get(name)
        if network is None:
            known = ", ".join(sorted(self._cluster.snapshot.networks)) or "none"
            raise InvalidInput(f"there is no network {name}", "network", f"podway apply it; known: {known}")
        refused = self._planner.refusal(network)
        if refused is not None:
            raise Unavailable(refused.reason, refused.subject, refused.fix)
        return network

    def mtu(self, network: Network) -> tuple[int, int]:
        """What links and routes of the network's pods get; the routes 0 when they need none of their own."""
        size = self._planner.inputs.sizes[network.name]
        return size.links, size.routes if size.routes < size.links else 0

    def hold(self, endpoint: Endpoint) -> None:
        """Enter what the database says an endpoint holds."""
        self.allocations.hold(bare(endpoint.addresses), endpoint.id)

    def release(self, endpoint: Endpoint, cools: bool) -> dict[str, float]:
        """Take an endpoint's addresses back. Returns those that cool down, and until when."""
        network = self._cluster.snapshot.networks.get(endpoint.network)
        cooldown = network.spec.cooldown if network else 0
        until = self._now() + cooldown if cools and cooldown else None
        return self.allocations.release(bare(endpoint.addresses), until)

    def allocate(self, network: Network, holder: str, ips: Sequence[str], ranges: Ranges) -> Choice:
        """Addresses for an endpoint. Raises InvalidInput, Conflict, Exhausted, Unavailable."""
        for ip in bare(ips):
            self.lending.recall_one(ip)
        new, borrowed = False, list[str]()
        while True:
            self._keep_back()
            closed = self._planner.closed | self._leaving
            blocks = [block for block in self._cluster.blocks(network) if block not in closed]
            found = self.allocations.choose(network, blocks + borrowed, holder, self._now(), ips, ranges)
            if isinstance(found, Choice):
                if new:
                    self._claimed()
                return found
            borrowed += self._find(network, found, ranges)
            new = True

    def claim_ahead(self, network: Network) -> bool:
        """Have a block of each family before the first pod asks, so that it waits for no store. Whether one
        was claimed now.

        Not where nodes carry each other nothing, and not from a pool that is half claimed: whoever has pods
        goes before whoever may get some. What can't be had is told to the pod that needs it."""
        if network.spec.transport == "none" or network.spec.interop:
            return False
        have = {family_of(block) for block in self._cluster.blocks(network)}
        wanted = {family_of(pool.cidr) for pool in network.spec.pools} - have
        claimed = False
        for family in sorted(wanted):
            with contextlib.suppress(PodwayError):
                if self._is_roomy(network, family):
                    self._claim(network, NeedBlock(family))
                    claimed = True
        return claimed

    def _is_roomy(self, network: Network, family: int) -> bool:
        blocks = self._cluster.snapshot.blocks.values()
        used = sum(b.spec.network == network.name and family_of(b.cidr) == family for b in blocks)
        return 2 * used < number_of_blocks(network, family)

    def release_empty(self) -> list[str]:
        """Give back what nobody has had an address of for EMPTY, but for the first block of a network and
        family: that one its peers prove the way to. Returns what was given back now."""
        snapshot, now = self._cluster.snapshot, self._now()
        self._leaving &= snapshot.blocks.keys()
        if not snapshot.synced:
            self._empty.clear()
            return []
        cooling = (address for address, until in self.allocations.cooling.items() if until > now)
        used = [*(a for a, who in self.allocations.holders.items() if who != OFFER), *cooling]
        spare = {b for b in self._spare() if not any(_holds(b, address) for address in used)}
        self._empty = {block: self._empty.get(block, now) for block in spare}
        due = [block for block, since in self._empty.items() if now - since >= EMPTY]
        due = [block for block in due if self.lending.clear(block)]
        self._leaving |= {*due}
        return [block for block in due if self._cluster.release(block)]

    def settle(self) -> bool:
        """Give back what was borrowed and offer what others may borrow. Whether this node's own changed."""
        if not self._cluster.snapshot.synced:
            return False
        changed = self.lending.settle()
        self._keep_back()
        self.lending.offer(self._leaving)
        return changed

    def _spare(self) -> set[str]:
        """This node's blocks but the first of each network and family."""
        found: dict[tuple[str, int], list[str]] = {}
        for cidr, block in self._cluster.snapshot.blocks.items():
            network = self._cluster.snapshot.networks.get(block.spec.network)
            if block.spec.node == self._cluster.node and network is not None and not network.spec.interop:
                found.setdefault((network.name, family_of(cidr)), []).append(cidr)
        return {cidr for blocks in found.values() for cidr in blocks if cidr != min(blocks)}

    def _keep_back(self) -> None:
        """An adopted bridge's own addresses are no pod's, nor are those that others have or may borrow."""
        adopted = self._planner.inputs.facts.adopted
        now = {address: f"bridge {name}" for name, found in adopted.items() for address in bare(found)}
        now |= self.lending.kept_back()
        holders = self.allocations.holders
        for address, who in self._kept_back.items():
            if now.get(address) != who:
                holders.pop(address, None)
        self._kept_back = {a: who for a, who in now.items() if holders.setdefault(a, who) == who}

    def reclaim(self, endpoints: Iterable[Endpoint]) -> bool:
        """Claim blocks again that went while their pods lived: with the node's record, or the whole store.

        Whether any was. Raises Unavailable."""
        news = False
        for endpoint in endpoints:
            network = self._cluster.snapshot.networks.get(endpoint.network)
            if network is None:
                continue
            for address in bare(endpoint.addresses):
                if self.lending.holds(address):
                    continue
                if not any(_holds(cidr, address) for cidr in self._cluster.blocks(network)):
                    claimed = self._cluster.claim(network, family_of(address), address, self._planner.avoid)
                    news = news or claimed is not None
        return news

    def _find(self, network: Network, need: NeedBlock, ranges: Ranges) -> list[str]:
        """Claim a block, or take back what of one's own is offered, or borrow the address returned."""
        try:
            self._claim(network, need)
        except (Conflict, Exhausted):
            closed = self._planner.closed | self._leaving
            if not need.holding and self.lending.recall(network, need.family, closed):
                return []
            limits = limits_of(ranges, need.family)
            borrowed = self.lending.borrow(network, need.family, need.holding, limits)
            if not borrowed:
                raise
            return [borrowed]
        return []

    def _claim(self, network: Network, need: NeedBlock) -> None:
        if network.spec.interop:
            why = "a node has one block of a network that it shares with Flannel, and this one's "
            raise Unavailable(why + "is full, or not leased yet", f"network {network.name}", "podway status")
        block = self._cluster.claim(network, need.family, need.holding, self._planner.avoid)
        if block is not None:
            self._leaving.discard(block.cidr)
            return
        if need.holding:
            owner = next(
                (b.spec.node for b in self._cluster.snapshot.blocks.values() if _holds(b.cidr, need.holding)),
                "?",
            )
            raise Conflict(
                f"address {need.holding} is in a block of node {owner}",
                f"network {network.name}",
                "ask on that node, or for another address",
            )
        for prefix, why in self._planner.avoid.items():
            if any(_overlap(prefix, pool.cidr) for pool in network.spec.pools):
                fix = "see podway status; give the network another pool"
                raise Conflict(f"no block can be claimed: {why}", f"network {network.name}", fix)
        held = len(self.allocations.holders) + len(self.allocations.cooling)
        raise exhausted(network, need.family, self._cluster.usage(network.name), held)


def _overlap(one: str, other: str) -> bool:
    import ipaddress

    return ipaddress.ip_network(one).overlaps(ipaddress.ip_network(other))


def _holds(cidr: str, address: str) -> bool:
    import ipaddress

    return ipaddress.ip_address(address) in ipaddress.ip_network(cidr)

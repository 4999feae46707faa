"""What happens when a network's settings change, told before: steps, risks, losses. Pure.

``podway diff`` prints it; ``podway apply`` refuses what loses packets unless it is told to.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator

import msgspec

from podway.model.objects import family_of
from podway.model.resources import Network, NetworkSpec, Node, Snapshot
from podway.plan import mtu
from podway.plan.way import Way, parse, wanted

MANY = 5  # nodes named in a sentence


class Outlook(msgspec.Struct, frozen=True):
    """Sentences. ``losses`` can't be avoided; ``clashes`` make the change impossible for now."""

    steps: tuple[str, ...] = ()
    risks: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()
    clashes: tuple[str, ...] = ()


def outlook(old: Network, new: Network, cluster: Snapshot) -> Outlook:
    """``old`` and ``new`` are resolved; ``cluster`` is as stored before the change."""
    if old.spec == new.spec:
        return Outlook()
    before, after = wanted(old.spec), wanted(new.spec)
    steps = [*_of_ways(before, after, cluster), *_of_direct(old.spec, new.spec)]
    steps += [*_of_sizes(old, new, cluster), *_of_pools(old.spec, new.spec)]
    risks = [*_risks_of_ways(before, after, cluster), *_risks_of_sizes(old, new, cluster)]
    risks += _risks_of_families(old.spec, new.spec)
    losses = [*_losses(old, new, cluster)]
    return Outlook(tuple(steps), tuple(risks), tuple(losses), tuple(_clashes(new, cluster)))


def _named(names: Iterable[str]) -> str:
    every = sorted(names)
    more = f" and {len(every) - MANY} more" if len(every) > MANY else ""
    return ", ".join(every[:MANY]) + more


def _carriers(network: str, cluster: Snapshot) -> set[str]:
    """Nodes that have a block, and so perhaps pods."""
    return {block.spec.node for block in cluster.blocks.values() if block.spec.network == network}


def _of_ways(before: Way, after: Way, cluster: Snapshot) -> Iterator[str]:
    if before == after or after.transport == "none":
        return
    yield f"every node makes ready to receive {after.text}" + (
        f" beside {before.text}, and says so" if before.transport != "none" else ", and says so"
    )
    yield f"two nodes that both accept {after.text} send each other by it"
    if before.transport != "none":
        waits = f"all {len(cluster.nodes)} registered nodes" if cluster.nodes else "the nodes"
        yield (
            f"{before.text} goes a second after nobody sends it any more; this waits for {waits}: one that "
            "is down goes on with the old way until it is back, or its Node is deleted"
        )


def _of_direct(old: NetworkSpec, new: NetworkSpec) -> Iterator[str]:
    before, after = old.direct_within_subnet, new.direct_within_subnet
    if mtu.most_overhead(new) and before != after:
        yield (
            "peers that are proved to be on the same segment are sent without a tunnel"
            if after
            else "every peer is sent through the tunnel, each once it accepts that"
        )


def _size(network: Network, cluster: Snapshot) -> tuple[int, bool]:
    """What pods have, as far as nodes have told; else counted from Ethernet's. Whether it is told."""
    spec = network.spec
    if spec.mtu != "auto":
        return spec.mtu, True
    said = [n.paths[network.name].sizes for n in cluster.nodes.values() if network.name in n.paths]
    settings = mtu.generation(network)
    targets = [one.target for one in said if one is not None and one.generation == settings]
    return (min(targets), True) if targets else (mtu.DEFAULT - mtu.most_overhead(spec), False)


def _sizes(old: Network, new: Network, cluster: Snapshot) -> tuple[int, int]:
    """MTU before and after, 0 where no node carries pods of the network yet."""
    before, told = _size(old, cluster)
    after, _ = _size(new, cluster)
    if new.spec.mtu == "auto" and old.spec.mtu == "auto" and told:
        after = before + mtu.most_overhead(old.spec) - mtu.most_overhead(new.spec)
    return before, after


def _of_sizes(old: Network, new: Network, cluster: Snapshot) -> Iterator[str]:
    before, after = _sizes(old, new, cluster)
    about = f"{before} to {after}" + (" (on nodes with links of 1500)" if new.spec.mtu == "auto" else "")
    if after < before:
        yield f"MTU {about}: first the routes in every pod on every node, then the paths, then pods' links"
    elif after > before:
        yield f"MTU {about}: first pods' links on every node, then the paths, then the routes in every pod"


def _risks_of_sizes(old: Network, new: Network, cluster: Snapshot) -> Iterator[str]:
    before, after = _sizes(old, new, cluster)
    if after >= before:
        return
    yield (
        f"datagrams of more than {after} bytes that must not be fragmented (DF, and all of IPv6 past their "
        "sender) can't be saved: their sender gets EMSGSIZE"
    )
    yield "open TCP connections from outside to published ports learn of it by one segment sent again"
    if after < 1280 and any(family_of(pool.cidr) == 6 for pool in new.spec.pools):
        yield "IPv6 has no MTU below 1280"


def _of_pools(old: NetworkSpec, new: NetworkSpec) -> Iterator[str]:
    before = [ipaddress.ip_network(pool.cidr) for pool in old.pools]
    for pool in new.pools:
        prefix = ipaddress.ip_network(pool.cidr)
        if prefix in before:
            continue
        grown = [str(one) for one in before if one.version == prefix.version and one.overlaps(prefix)]
        if grown:
            yield f"pool {_named(grown)} becomes {prefix}; blocks and pods stay"
        else:
            yield f"pool {prefix} is added: nodes claim blocks of it when those of the others are full"


def _risks_of_families(old: NetworkSpec, new: NetworkSpec) -> Iterator[str]:
    before, after = ({family_of(pool.cidr) for pool in spec.pools} for spec in (old, new))
    for family in sorted(after - before):
        yield f"pods get an IPv{family} address when they are attached; those of today have none until then"


def _risks_of_ways(before: Way, after: Way, cluster: Snapshot) -> Iterator[str]:
    stays = f"they go on with {before.text}, which then never goes; nodes that join get no path to them"
    if before == after or "none" in (before.transport, after.transport):
        return
    if after.underlay:
        lacking = [n.name for n in cluster.nodes.values() if not _has(n, after.underlay)]
        if lacking:
            yield f"nodes without an IPv{after.underlay} address: {_named(lacking)}: {stays}"
    apart = _apart(cluster.nodes.values()) if after.transport == "host-gw" else ()
    if apart:
        yield f"nodes that share no segment with all the others: {_named(apart)}: {stays}"


def _has(node: Node, family: int) -> bool:
    return any(family_of(address) == family for address in node.spec.addresses)


def _apart(nodes: Iterable[Node]) -> list[str]:
    """Nodes that are not on the segment that most are on."""
    prefixes = {n.name: {ipaddress.ip_interface(a).network for a in n.spec.addresses} for n in nodes}
    every = [prefix for found in prefixes.values() for prefix in found]
    if not every:
        return []
    most = max(sorted(set(every), key=str), key=every.count)
    return [name for name, found in prefixes.items() if most not in found]


def _losses(old: Network, new: Network, cluster: Snapshot) -> Iterator[str]:
    carriers = _carriers(new.name, cluster)
    if new.spec.transport == "none" != old.spec.transport and len(carriers) > 1:
        yield f"pods of different nodes no longer reach each other: {_named(carriers)} have blocks"
    if not carriers or old.spec.attach != new.spec.attach or new.spec.attach != "bridge":
        return
    if (old.spec.bridge.name, old.spec.bridge.adopt) != (new.spec.bridge.name, new.spec.bridge.adopt):
        yield "pods move to another bridge, and each is cut off for that moment"
    if new.spec.bridge.isolated and not old.spec.bridge.isolated:
        yield "pods of one node no longer reach each other"


def _clashes(new: Network, cluster: Snapshot) -> Iterator[str]:
    """A tunnel's device has one network and one way: another that still has these values is in the way."""
    way = wanted(new.spec)
    if way.alone is None:
        return
    what = f"VNI {way.vni} on UDP port {way.port}" if way.vni else f"UDP port {way.port}"
    for node in cluster.nodes.values():
        for name, paths in node.paths.items():
            held = {parse(text) for text in (*paths.accepts, *paths.sends)} - {
                way if name == new.name else None
            }
            if name in cluster.networks and any(one is not None and one.alone == way.alone for one in held):
                fix = "take another" if name == new.name else "apply this once that has moved"
                yield f"{what} still carries network {name} on node {node.name}; {fix}"
                return

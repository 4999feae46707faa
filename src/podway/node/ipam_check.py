"""Do store, local database, kernel and living namespaces agree on who has which address?

``compare`` is pure; ``collect`` gathers what it looks at; ``mend`` does what a finding says.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
from collections.abc import Callable, Iterable

import msgspec

from podway.kernel import namespaces
from podway.kernel.facade import Kernel
from podway.model.errors import PodwayError
from podway.model.objects import ALIAS_PREFIX, Address, Link
from podway.model.resources import Endpoint, Snapshot

POD = f"{ALIAS_PREFIX}pod:"


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """``links``: endpoint id → host link of Podway's pods in the kernel. ``living``: endpoint id →
    addresses found in its namespace, only for namespaces that could be entered."""

    node: str
    snapshot: Snapshot
    endpoints: dict[str, Endpoint]
    links: dict[str, str]
    living: dict[str, frozenset[str]]


class Finding(msgspec.Struct, frozen=True):
    """``what`` names the leak or duplicate; ``release`` the endpoint whose removal mends it, "" if none."""

    what: str
    release: str = ""


def compare(facts: Facts) -> list[Finding]:
    """All disagreements, in a stable order."""
    return [
        *_duplicates(facts),
        *_dead(facts),
        *_outside_blocks(facts),
        *_lent_and_held(facts),
        *_unknown_links(facts),
        *_unowned_blocks(facts),
    ]


def _bare(endpoint: Endpoint) -> list[str]:
    return [address.partition("/")[0] for address in endpoint.addresses]


def _duplicates(facts: Facts) -> Iterable[Finding]:
    holders: dict[str, str] = {}
    for name, endpoint in sorted(facts.endpoints.items()):
        for address in _bare(endpoint):
            if address in holders:
                yield Finding(f"duplicate: {address} is held by {holders[address]} and {name}", release=name)
            holders.setdefault(address, name)


def _dead(facts: Facts) -> Iterable[Finding]:
    """An address whose pod has neither a namespace nor a link."""
    for name, endpoint in sorted(facts.endpoints.items()):
        listed = ", ".join(_bare(endpoint))
        if name not in facts.living and name not in facts.links:
            yield Finding(f"leak: {listed} of {name}, whose namespace and link are gone", release=name)
        elif name in facts.living and not set(_bare(endpoint)) <= facts.living[name]:
            lost = ", ".join(sorted(set(_bare(endpoint)) - facts.living[name]))
            yield Finding(f"lost: {lost} is not on {endpoint.ifname} of {name} any more; delete and add it")


def _outside_blocks(facts: Facts) -> Iterable[Finding]:
    own = [
        ipaddress.ip_network(block.cidr)
        for block in facts.snapshot.blocks.values()
        if block.spec.node == facts.node
    ]
    if not facts.snapshot.synced:
        return
    for name, endpoint in sorted(facts.endpoints.items()):
        for address in _bare(endpoint):
            borrow = facts.snapshot.borrows.get(address)
            if borrow is not None and borrow.spec.node == facts.node:
                continue
            if not any(ipaddress.ip_address(address) in block for block in own):
                yield Finding(f"foreign: {address} of {name} is in no block of node {facts.node}")


def _lent_and_held(facts: Facts) -> Iterable[Finding]:
    """An address that a pod here has, and another node has borrowed."""
    for name, endpoint in sorted(facts.endpoints.items()):
        for address in _bare(endpoint):
            borrow = facts.snapshot.borrows.get(address)
            if borrow is not None and borrow.spec.node != facts.node:
                yield Finding(
                    f"duplicate: {address} is held by {name}, and borrowed by node {borrow.spec.node}; "
                    "delete one of the two pods"
                )


def _unknown_links(facts: Facts) -> Iterable[Finding]:
    for name, link in sorted(facts.links.items()):
        if name not in facts.endpoints:
            yield Finding(f"leak: link {link} of {name}, which the database doesn't know", release=name)


def _unowned_blocks(facts: Facts) -> Iterable[Finding]:
    if not facts.snapshot.synced:
        return
    for cidr, block in sorted(facts.snapshot.blocks.items()):
        if block.spec.node not in facts.snapshot.nodes:
            yield Finding(f"leak: block {cidr} of node {block.spec.node}, which is not registered")
        if block.spec.network not in facts.snapshot.networks:
            yield Finding(f"leak: block {cidr} of network {block.spec.network}, which is not declared")
    for address, borrow in sorted(facts.snapshot.borrows.items()):
        if borrow.spec.node not in facts.snapshot.nodes:
            yield Finding(f"leak: {address} is borrowed by node {borrow.spec.node}, which is not registered")


def collect(kernel: Kernel, node: str, snapshot: Snapshot, endpoints: Iterable[Endpoint]) -> Facts:
    """Look at the kernel and into the namespaces that can be entered."""
    known = {endpoint.id: endpoint for endpoint in endpoints}
    links = {
        (link.alias or "").removeprefix(POD): link.name
        for link in kernel.rtnetlink.dump("link").values()
        if isinstance(link, Link) and link.kind == "veth" and (link.alias or "").startswith(POD)
    }
    living = {}
    for name, endpoint in known.items():
        found = _addresses_inside(kernel, endpoint)
        if found is not None:
            living[name] = found
    return Facts(node=node, snapshot=snapshot, endpoints=known, links=links, living=living)


def _addresses_inside(kernel: Kernel, endpoint: Endpoint) -> frozenset[str] | None:
    with contextlib.suppress(OSError):
        fd = namespaces.open_namespace(endpoint.namespace)
        try:
            if namespaces.identity(fd) == endpoint.namespace_id:
                inside = kernel.observe_inside(fd).values()
                return frozenset(
                    a.address.partition("/")[0]
                    for a in inside
                    if isinstance(a, Address) and a.link == endpoint.ifname
                )
        finally:
            os.close(fd)
    return None


def mend(delete: Callable[[str, str], None], findings: Iterable[Finding]) -> list[str]:
    """Release what leaks by ``delete`` (container, interface), links that no database knows too.

    Returns a line per thing done; what needs a person stays a finding."""
    done = []
    for finding in findings:
        if not finding.release:
            continue
        container, _, ifname = finding.release.rpartition("/")
        try:
            delete(container, ifname)
            done.append(f"released {finding.release}")
        except (PodwayError, OSError) as error:
            done.append(f"could not mend {finding.what}: {error}")
    return done

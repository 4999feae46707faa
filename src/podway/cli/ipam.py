"""``podway ipam show|check|release``."""

from __future__ import annotations

import contextlib
import ipaddress
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from podway.cli.options import cni_socket, node_options, socket_option
from podway.cli.output import as_json
from podway.model.errors import Conflict, InvalidInput

if TYPE_CHECKING:
    from podway.model.resources import Endpoint
    from podway.node.ipam_check import Facts, Finding

SETTLED = 2.0  # seconds


@click.group()
def ipam() -> None:
    """Blocks and addresses of this node."""


@contextlib.contextmanager
def _facts(node: str, state_dir: str, store: str) -> Iterator[Facts]:
    """What is to be compared, read only, beside a running agent."""
    from podway.kernel.facade import Kernel
    from podway.node.cluster import Cluster
    from podway.node.database import Database
    from podway.node.ipam_check import collect

    database = Database.open(state_dir, readonly=True)
    kernel = Kernel()
    cluster = Cluster(node, store, database)
    try:
        cluster.refresh(remember=False)
        if not cluster.snapshot.synced:
            click.echo(f"warning: by the last known state: {cluster.trouble}", err=True)
        endpoints = [endpoint for endpoint, _ in database.endpoints().values()]
        yield collect(kernel, node, cluster.snapshot, endpoints)
    finally:
        cluster.close()
        kernel.close()
        database.close()


def _in_block(endpoints: list[Endpoint], cidr: str) -> list[tuple[str, Endpoint]]:
    block = ipaddress.ip_network(cidr)
    pairs = [(a.partition("/")[0], e) for e in endpoints for a in e.addresses]
    return sorted(
        ((a, e) for a, e in pairs if ipaddress.ip_address(a) in block),
        key=lambda p: ipaddress.ip_address(p[0]).packed,
    )


@ipam.command()
@node_options
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
def show(node: str, store: str, state_dir: str, output: str) -> None:
    """Pools, nodes' blocks, and who has which address here."""
    with _facts(node, state_dir, store) as facts:
        snapshot, endpoints = facts.snapshot, list(facts.endpoints.values())
    if output == "json":
        document = {"networks": snapshot.networks, "blocks": snapshot.blocks, "borrows": snapshot.borrows}
        click.echo(as_json(document | {"endpoints": endpoints}))
        return
    if not snapshot.networks:
        click.echo("no network is known")
    for network in snapshot.networks.values():
        for pool in network.spec.pools:
            click.echo(f"pool {pool.cidr}  network {network.name}")
            whole = ipaddress.ip_network(pool.cidr)
            for block in snapshot.blocks.values():
                if not _within(block.cidr, whole):
                    continue
                here = _in_block(endpoints, block.cidr) if block.spec.node == node else []
                use = f"  {len(here)} addresses" if block.spec.node == node else ""
                click.echo(f"  block {block.cidr}  node {block.spec.node}{use}")
                for address, endpoint in here:
                    click.echo(f"    {address}  {endpoint.id}  {endpoint.pod}".rstrip())
                for line in _borrowed(facts, block.cidr):
                    click.echo(f"    {line}")


def _borrowed(facts: Facts, cidr: str) -> Iterator[str]:
    """What nodes have borrowed of a block, with the pod where that is here."""
    block = ipaddress.ip_network(cidr)
    for address, borrow in sorted(facts.snapshot.borrows.items()):
        if ipaddress.ip_address(address) in block:
            single = f"{address}/{block.max_prefixlen}"
            here = _in_block(list(facts.endpoints.values()), single) if borrow.spec.node == facts.node else []
            whose = "".join(f"  {endpoint.id}  {endpoint.pod}" for _, endpoint in here)
            yield f"{address}  borrowed by node {borrow.spec.node}{whose}".rstrip()


def _within(cidr: str, whole: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    block = ipaddress.ip_network(cidr)
    return block.version == whole.version and block.network_address in whole


@ipam.command()
@node_options
@click.option("--fix", is_flag=True, help="mend what can be mended")
@socket_option
def check(node: str, store: str, state_dir: str, fix: bool, socket: str | None) -> None:
    """Compare store, database, kernel and namespaces. Exit code 1 if they disagree."""
    from podway.node.ipam_check import compare, mend

    with _facts(node, state_dir, store) as facts:
        findings = compare(facts)
    for finding in findings:
        click.echo(finding.what)
    if not findings:
        places = "store, kernel and namespaces" if facts.snapshot.synced else "kernel and namespaces"
        click.echo(f"{len(facts.endpoints)} addresses' holders agree with {places}")
        return
    if not fix:
        raise SystemExit(1)
    from podway.cni.detaching import detacher

    with detacher(node, state_dir, store, socket or cni_socket(node)) as delete:
        for line in mend(delete, findings):
            click.echo(line)
    left = _what_stays(node, state_dir, store)
    for finding in left:
        click.echo(f"left: {finding.what}")
    raise SystemExit(1 if left else 0)


def _what_stays(node: str, state_dir: str, store: str) -> list[Finding]:
    """After mending: links of the dead go a moment after an agent's answer."""
    from podway.node.ipam_check import compare

    end = time.monotonic() + SETTLED
    while True:
        with _facts(node, state_dir, store) as after:
            left = compare(after)
        if not any(finding.release for finding in left) or time.monotonic() > end:
            return left
        time.sleep(0.05)


@ipam.command()
@click.argument("address")
@node_options
@click.option("--force", is_flag=True, help="although its pod lives")
@socket_option
def release(address: str, node: str, store: str, state_dir: str, force: bool, socket: str | None) -> None:
    """Free an ADDRESS whose pod is gone."""
    try:
        address = str(ipaddress.ip_address(address))
    except ValueError:
        raise InvalidInput(f"{address!r} is no address", fix="see podway ipam show") from None
    with _facts(node, state_dir, store) as facts:
        holders = [
            e for e in facts.endpoints.values() if any(a.partition("/")[0] == address for a in e.addresses)
        ]
    if not holders:
        raise InvalidInput(f"nobody on node {node} holds {address}", fix="see podway ipam show")
    for endpoint in holders:
        if endpoint.id in facts.living and not force:
            what = f"{address} is held by {endpoint.id}, whose pod lives"
            raise Conflict(what, fix="stop the pod, or --force")
    from podway.cni.detaching import detacher

    with detacher(node, state_dir, store, socket or cni_socket(node)) as delete:
        for endpoint in holders:
            delete(endpoint.container, endpoint.ifname)
            click.echo(f"{address} of {endpoint.id} released")

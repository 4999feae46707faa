"""``podway apply|get|describe|diff|delete``: what is declared, in the store."""

from __future__ import annotations

import difflib
import json
import os
from typing import Any

import click
import msgspec

from podway.cli import yaml_input
from podway.cli.options import store_option
from podway.model import documents, validation
from podway.model.errors import Conflict, InvalidInput, PodwayError
from podway.model.resources import Block, Network, Node
from podway.store import Compacted, NotFound, Record, Store, open_store

KINDS = {"network": "Network", "node": "Node", "block": "Block"}
OUTPUT = click.option("-o", "--output", type=click.Choice(["table", "wide", "json", "yaml"]), default="table")
FILE = click.option("-f", "--file", "path", required=True, help="YAML or JSON documents; - is stdin")


def kinds_of(text: str) -> list[str]:
    """ "networks,node" → ["Network", "Node"]. Raises InvalidInput with a suggestion."""
    found = []
    for word in text.split(","):
        low = word.strip().lower()
        kind = KINDS.get(low) or KINDS.get(low.removesuffix("s"))
        if kind is None:
            raise InvalidInput(f"{word!r} is no kind", fix=documents.suggest(low, KINDS))
        found.append(kind)
    return found


def _records(store: Store, kinds: list[str]) -> list[Record]:
    return [record for kind in kinds for record in store.list(kind)[0]]


def _document(record: Record) -> dict[str, Any]:
    return documents.encode(documents.stored(record), msgspec.json.decode(record.status))


def _host_routes() -> list[str]:
    """Prefixes that this host reaches by routes that aren't Podway's; [] where they can't be read."""
    from podway.kernel.rtnetlink import Rtnetlink
    from podway.model.objects import ALIAS_PREFIX, MAIN_TABLE, ROUTE_PROTOCOL, Link, Route

    try:
        rtnetlink = Rtnetlink()
    except OSError:
        return []
    try:
        routes = rtnetlink.dump("route", table=MAIN_TABLE).values()
        links = rtnetlink.dump("link").values()
    finally:
        rtnetlink.close()
    own = {o.name for o in links if isinstance(o, Link) and (o.alias or "").startswith(ALIAS_PREFIX)}
    return [
        r.dst
        for r in routes
        if isinstance(r, Route) and r.protocol != ROUTE_PROTOCOL and r.dev not in own and r.type == "unicast"
    ]


def _check(store: Store, wanted: list[documents.Resource], path: str) -> None:
    """What must hold between the documents and what is stored. Raises InvalidInput with all of it."""
    known, _ = documents.snapshot(_records(store, ["Network", "Node"]), synced=True)
    networks = known.networks | {r.name: documents.resolve(r) for r in wanted if isinstance(r, Network)}
    nodes = known.nodes | {r.name: r for r in wanted if isinstance(r, Node)}
    found = validation.cluster_problems(networks, nodes, _host_routes())
    changed = {r.name for r in wanted if isinstance(r, Network)}
    lines = [f"network {name}: {p.path}: {p.what}" + (f" ({p.fix})" if p.fix else "") for name, p in found]
    mine = [line for line, (name, _) in zip(lines, found, strict=True) if name in changed]
    for resource in wanted:
        if isinstance(resource, Network) and resource.name in known.networks:
            mine += _used_pools(store, known.networks[resource.name], resource)
    if mine:
        raise InvalidInput("\n  ".join(mine), path, "nothing was changed")


def _used_pools(store: Store, old: Network, new: Network) -> list[str]:
    """A pool can't go while a node has a block of it."""
    import ipaddress

    kept = [ipaddress.ip_network(pool.cidr) for pool in new.spec.pools]
    lines = []
    for record in store.list("Block")[0]:
        block = documents.stored(record)
        if not isinstance(block, Block) or block.spec.network != old.name:
            continue
        prefix = ipaddress.ip_network(block.cidr)
        if not any(prefix.version == pool.version and prefix.subnet_of(pool) for pool in kept):  # type: ignore[arg-type]
            lines.append(
                f"network {old.name}: block {block.cidr} of node {block.spec.node} would be in no pool"
            )
    return lines


def _prepare_default(url: str) -> None:
    scheme, _, path = url.partition(":")
    if scheme == "sqlite" and os.path.dirname(path) == "/var/lib/podway":
        os.makedirs("/var/lib/podway", mode=0o700, exist_ok=True)


def _apply_one(store: Store, resource: documents.Resource) -> str:
    kind = type(resource).__name__
    name = resource.cidr if isinstance(resource, Block) else resource.name
    spec = documents.spec_json(resource)
    try:
        stored = store.get(kind, name)
    except NotFound:
        store.create(Record(kind=kind, name=name, spec=spec))
        return "created"
    if stored.spec == spec:
        return "unchanged"
    store.update_spec(msgspec.structs.replace(stored, spec=spec))
    return "changed"


@click.command()
@FILE
@store_option
def apply(path: str, store: str) -> None:
    """Create or change what FILE declares. Every document is checked before the first is written."""
    wanted = yaml_input.resources(path)
    _prepare_default(store)
    opened = open_store(store)
    done: list[str] = []
    try:
        _check(opened, wanted, path)
        for resource in wanted:
            name = f"{type(resource).__name__.lower()} {getattr(resource, 'name', '')}"
            try:
                done.append(f"{name} {_apply_one(opened, resource)}")
            except PodwayError as error:
                before = "; ".join(done) or "nothing"
                raise Conflict(f"{name}: {error.what}", error.where, f"done before it: {before}") from error
            click.echo(done[-1])
    finally:
        opened.close()


@click.command()
@FILE
@store_option
def diff(path: str, store: str) -> None:
    """What apply would change. Exit code 1 if anything."""
    wanted = yaml_input.resources(path)
    opened = open_store(store)
    try:
        changes = [line for resource in wanted for line in _difference(opened, resource)]
    finally:
        opened.close()
    for line in changes:
        click.echo(line)
    raise SystemExit(1 if changes else 0)


def _difference(store: Store, resource: documents.Resource) -> list[str]:
    import yaml

    new = yaml.safe_dump(documents.encode(resource), sort_keys=False).splitlines()
    kind, name = type(resource).__name__, getattr(resource, "name", "")
    try:
        old_document = documents.encode(documents.stored(store.get(kind, name)))
        old = yaml.safe_dump(old_document, sort_keys=False).splitlines()
    except NotFound:
        old = []
    return list(difflib.unified_diff(old, new, f"stored {kind} {name}", f"{kind} {name}", lineterm=""))


COLUMNS: dict[str, list[str]] = {
    "Network": ["NAME", "ATTACH", "TRANSPORT", "POOLS", "MASQUERADE"],
    "Node": ["NAME", "ADDRESSES"],
    "Block": ["CIDR", "NETWORK", "NODE", "ATTACH"],
}


def _row(record: Record, wide: bool) -> list[str]:
    value = documents.stored(record)
    if isinstance(value, Network):
        spec = documents.resolve(value).spec
        pools = ", ".join(pool.cidr for pool in spec.pools)
        row = [value.name, spec.attach, spec.transport, pools, "yes" if spec.masquerade else "no"]
        return [*row, str(spec.mtu), value.spec.preset or "-"] if wide else row
    if isinstance(value, Node):
        one, _ = documents.snapshot([record], synced=True)
        return [value.name, ", ".join(one.nodes[value.name].spec.addresses) or "-"]
    return [value.cidr, value.spec.network, value.spec.node, value.spec.attach]


def _table(kind: str, rows: list[list[str]], wide: bool) -> str:
    head = COLUMNS[kind] + (["MTU", "PRESET"] if wide and kind == "Network" else [])
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in [head, *rows]]
    return "\n".join(line.rstrip() for line in lines)


def _show(kinds: list[str], records: list[Record], output: str) -> str:
    if output in ("json", "yaml"):
        found = [_document(record) for record in records]
        if output == "json":
            return json.dumps(found[0] if len(found) == 1 else found, indent=2)
        import yaml

        return yaml.safe_dump_all(found, sort_keys=False).rstrip()
    parts = []
    for kind in kinds:
        rows = [_row(record, output == "wide") for record in records if record.kind == kind]
        parts.append(_table(kind, rows, output == "wide") if rows else f"no {kind.lower()}s")
    return "\n\n".join(parts)


@click.command()
@click.argument("kind")
@click.argument("name", required=False)
@OUTPUT
@click.option("--watch", is_flag=True, help="go on showing what changes, until Ctrl-C")
@store_option
def get(kind: str, name: str | None, output: str, watch: bool, store: str) -> None:
    """List resources: networks, nodes, blocks, or several with commas."""
    kinds = kinds_of(kind)
    opened = open_store(store)
    try:
        _, token = opened.list(kinds[0])
        records = [opened.get(k, name) for k in kinds] if name else _records(opened, kinds)
        click.echo(_show(kinds, records, output))
        if watch:
            _follow(opened, kinds, token, name, output)
    finally:
        opened.close()


def _follow(store: Store, kinds: list[str], token: str, name: str | None, output: str) -> None:
    import select

    try:
        changes = store.watch(tuple(kinds), token)
        while True:
            # a wake-up may come before its commit is visible: look again soon
            select.select([changes], [], [], 1.0)
            for event in changes.read():
                if name in (None, event.record.name):
                    gone = "deleted " if event.deleted else ""
                    shown = _show([event.record.kind], [event.record], output)
                    click.echo(gone + (shown if output in ("json", "yaml") else shown.splitlines()[-1]))
    except Compacted as error:
        raise Conflict("the store no longer has all changes", fix="run it again") from error


@click.command()
@click.argument("kind")
@click.argument("name")
@store_option
def describe(kind: str, name: str, store: str) -> None:
    """Everything about one resource, and what belongs to it."""
    import yaml

    (one,) = kinds_of(kind)
    opened = open_store(store)
    try:
        record = opened.get(one, name)
        blocks = [documents.stored(r) for r in opened.list("Block")[0]]
    finally:
        opened.close()
    click.echo(yaml.safe_dump(_document(record), sort_keys=False).rstrip())
    own = [b for b in blocks if isinstance(b, Block) and name in (b.spec.network, b.spec.node)]
    if own and one != "Block":
        click.echo("blocks:")
        for block in own:
            click.echo(f"  {block.cidr}  network {block.spec.network}  node {block.spec.node}")


@click.command()
@click.argument("kind", required=False)
@click.argument("name", required=False)
@click.option("-f", "--file", "path", help="delete what these documents declare")
@click.option(
    "--force", is_flag=True, help="also a network whose blocks are claimed, or a node that has some"
)
@store_option
def delete(kind: str | None, name: str | None, path: str | None, force: bool, store: str) -> None:
    """Delete a resource by KIND and NAME, or those of a file. Pods' traffic stops with their network."""
    if path:
        targets = [(type(r).__name__, getattr(r, "name", "")) for r in yaml_input.resources(path)]
    elif kind and name:
        targets = [(kinds_of(kind)[0], name)]
    else:
        raise click.UsageError("give KIND and NAME, or -f FILE")
    opened = open_store(store)
    try:
        for one, which in targets:
            _delete_one(opened, one, which, force)
            click.echo(f"{one.lower()} {which} deleted")
    finally:
        opened.close()


def _delete_one(store: Store, kind: str, name: str, force: bool) -> None:
    """Blocks of what goes are released with it."""
    record = store.get(kind, name)
    owned = []
    for found in store.list("Block")[0]:
        block = documents.stored(found)
        if isinstance(block, Block) and kind in ("Network", "Node"):
            owner = block.spec.network if kind == "Network" else block.spec.node
            owned += [found] if owner == name else []
    if owned and not force:
        raise Conflict(
            f"{kind.lower()} {name} has {len(owned)} claimed blocks ({owned[0].name}, …)",
            fix="delete its pods first, or use --force",
        )
    for block_record in owned:
        store.delete("Block", block_record.name)
    store.delete(kind, name, record.version)

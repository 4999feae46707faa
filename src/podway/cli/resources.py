"""``podway get|describe|delete``: what is in the store."""

from __future__ import annotations

import contextlib
import json
import select

import click
import msgspec

from podway.cli import yaml_input
from podway.cli.options import agent_socket, socket_option, store_option
from podway.cli.output import columns
from podway.model import documents, problems, stored
from podway.model.bgp_specs import BGP_KINDS
from podway.model.errors import Conflict, InvalidInput
from podway.model.lending import Borrow
from podway.model.resources import BgpResource, Block, Network, Node
from podway.store import Compacted, Record, Store, StoreUnavailable, open_store

KINDS = {kind.lower(): kind for kind in documents.SPECS}
OUTPUT = click.option("-o", "--output", type=click.Choice(["table", "wide", "json", "yaml"]), default="table")

COLUMNS: dict[str, list[str]] = {
    "Network": ["NAME", "ATTACH", "TRANSPORT", "POOLS", "MASQUERADE"],
    "Node": ["NAME", "ADDRESSES"],
    "Block": ["CIDR", "NETWORK", "NODE", "ATTACH"],
    "Borrow": ["ADDRESS", "NETWORK", "NODE"],
    **{kind: ["NAME", "SPEC"] for kind in BGP_KINDS},
}
WIDE: dict[str, list[str]] = {"Network": ["MTU", "PRESET", "BRIDGE"], "Node": ["AGENT"]}


def _plural(kind: str) -> str:
    """ "Network" → "networks"."""
    low = kind.lower()
    return f"{low.removesuffix('y')}ies" if low.endswith("y") else f"{low}s"


PLURALS = {_plural(kind): kind for kind in KINDS.values()}


def kinds_of(text: str) -> list[str]:
    """ "networks,node" → ["Network", "Node"]. Raises InvalidInput with a suggestion."""
    found: list[str] = []
    for word in text.split(","):
        low = word.strip().lower()
        if low in KNOWN_BY_NODES:
            raise InvalidInput(f"{low} are not in the store, but what a node knows", fix=f"podway get {low}")
        kind = KINDS.get(low) or PLURALS.get(low)
        if kind is None:
            raise InvalidInput(f"{word!r} is no kind", fix=problems.suggest(low, KINDS))
        if kind not in found:
            found.append(kind)
    return found


def _row(record: Record, wide: bool, alive: frozenset[str] | None = None) -> list[str]:
    try:
        value = stored.resource(record)
        if isinstance(value, Network):
            return _network_row(value, wide)
        if isinstance(value, Node):
            one, _ = stored.snapshot([record])
            node = one.nodes[value.name]
            return [
                value.name,
                ", ".join(node.spec.addresses) or "-",
                *([_agent(node, alive)] if wide else []),
            ]
        if isinstance(value, BgpResource):
            return [value.name, _one_line(value)]
        if isinstance(value, Borrow):
            return [value.address, value.spec.network, value.spec.node]
        return [value.cidr, value.spec.network, value.spec.node, value.spec.attach]
    except InvalidInput:
        return [record.name, "(of another version, see -o json)"]


def _agent(node: Node, alive: frozenset[str] | None) -> str:
    """Whether its agent is heard of; "-" for one that never was, or where the store keeps no such thing."""
    if alive is None or not (node.paths or node.name in alive):
        return "-"
    return "alive" if node.name in alive else "suspect"


def _one_line(resource: BgpResource) -> str:
    """What differs from the defaults."""
    spec = documents.veiled(documents.encode(resource))["spec"]
    return msgspec.json.encode(spec).decode().strip("{}").replace('"', "").replace(",", ", ")


def _network_row(network: Network, wide: bool) -> list[str]:
    from podway.model import names

    spec = documents.resolve(network).spec
    pools = ", ".join(pool.cidr for pool in spec.pools)
    row = [network.name, spec.attach, spec.transport, pools, "yes" if spec.masquerade else "no"]
    more = [str(spec.mtu), spec.preset or "-", names.bridge(network.name, spec.bridge.name)]
    return row + more if wide else row


def _table(kind: str, rows: list[list[str]], wide: bool, head: bool = True) -> str:
    return columns(COLUMNS[kind] + (WIDE.get(kind, []) if wide else []), rows, head)


def _show(
    kinds: list[str], records: list[Record], output: str, single: bool, alive: frozenset[str] | None
) -> str:
    if output in ("json", "yaml"):
        found = [documents.show(record) for record in records]
        if output == "json":
            return json.dumps(found[0] if single else found, indent=2)
        import yaml

        return yaml.safe_dump_all(found, sort_keys=False).rstrip()
    parts = []
    for kind in kinds:
        rows = [_row(record, output == "wide", alive) for record in records if record.kind == kind]
        parts.append(_table(kind, rows, output == "wide") if rows else f"no {_plural(kind)}")
    return "\n\n".join(parts)


@click.command()
@click.argument("kind")
@click.argument("name", required=False)
@OUTPUT
@click.option("--watch", is_flag=True, help="go on showing what changes, until Ctrl-C")
@click.option("--node", envvar="PODWAY_NODE", help="whose peers or leases [default: the host name]")
@socket_option
@store_option
def get(
    kind: str, name: str | None, output: str, watch: bool, node: str | None, socket: str | None, store: str
) -> None:
    """List resources: networks, nodes, blocks, or several with commas.

    Or what a node knows: its peers, or the DHCP leases of its pods."""
    if known := KNOWN_BY_NODES.get(kind):
        click.echo(known(agent_socket(node, socket), name, output))
        return
    kinds = kinds_of(kind)
    with contextlib.closing(open_store(store)) as opened:
        listed, token = opened.list(*kinds, "Alive")
        alive = frozenset(one.name for one in listed if one.kind == "Alive") if opened.leases else None
        found = [one for one in listed if one.kind != "Alive"]
        records = [opened.get(one, name) for one in kinds] if name else found
        click.echo(_show(kinds, records, output, name is not None and len(kinds) == 1, alive))
        if watch:
            _follow(opened, kinds, token, name, output)


def _peers(path: str, name: str | None, output: str) -> str:
    from podway.observe import client, peers

    found = [peer for peer in client.peers(path) if name in (None, peer.name)]
    chosen = client.choices(path)
    if name and not found:
        raise InvalidInput(f"the node has no peer {name!r}", path)
    if output in ("json", "yaml"):
        values = msgspec.to_builtins(found)
        for value in values:
            value["choices"] = msgspec.to_builtins([one for one in chosen if one.peer == value["name"]])
        return json.dumps(values, indent=2) if output == "json" else _yaml(values)
    wide = output == "wide"
    titles = peers.WIDE if wide else peers.COLUMNS
    return columns(titles, peers.rows(found, chosen, wide)) if found else "no peers"


def _leases(path: str, name: str | None, output: str) -> str:
    from podway.observe import client, leases

    found = [lease for lease in client.leases(path) if lease.container.startswith(name or "")]
    if name and not found:
        raise InvalidInput(f"no container {name!r} has a lease", path)
    if output in ("json", "yaml"):
        values = msgspec.to_builtins(found)
        return json.dumps(values, indent=2) if output == "json" else _yaml(values)
    wide = output == "wide"
    titles = leases.WIDE if wide else leases.COLUMNS
    return columns(titles, leases.rows(found, wide)) if found else "no leases"


#: what is in no store, and asked of the agent
KNOWN_BY_NODES = {"peer": _peers, "peers": _peers, "lease": _leases, "leases": _leases}


def _yaml(values: object) -> str:
    import yaml

    return str(yaml.safe_dump(values, sort_keys=False)).rstrip()


def _follow(store: Store, kinds: list[str], token: str, name: str | None, output: str) -> None:
    try:
        changes = store.watch(tuple(kinds), token)
    except Compacted as error:
        raise Conflict("the store no longer has all changes", fix="run it again") from error
    while True:
        with contextlib.closing(changes):
            try:
                while True:
                    select.select([changes], [], [])
                    for event in changes.read():
                        if name in (None, event.record.name):
                            _tell(event.record, event.deleted, output)
            except Compacted as error:
                raise Conflict("the store no longer has all changes", fix="run it again") from error
            except StoreUnavailable as error:  # one member may be gone and another there
                lost = error
        try:
            changes = store.watch(tuple(kinds), changes.token)
        except Compacted:
            raise lost from None


def _tell(record: Record, deleted: bool, output: str) -> None:
    """One change: a row, or a document with ``deleted`` where it went."""
    if output in ("json", "yaml"):
        document = documents.show(record) | ({"deleted": True} if deleted else {})
        import yaml

        text = (
            json.dumps(document) if output == "json" else "---\n" + yaml.safe_dump(document, sort_keys=False)
        )
        click.echo(text.rstrip())
    else:
        row = _table(record.kind, [_row(record, output == "wide")], output == "wide", head=False)
        click.echo(f"{row}  (deleted)" if deleted else row)


@click.command()
@click.argument("kind")
@click.argument("name")
@store_option
def describe(kind: str, name: str, store: str) -> None:
    """Everything about one resource, and what belongs to it."""
    import yaml

    (one, *more) = kinds_of(kind)
    if more:
        raise InvalidInput("describe takes one kind", kind)
    with contextlib.closing(open_store(store)) as opened:
        record = opened.get(one, name)
        own = _blocks_of(opened, one, name)
    shown = documents.veiled(documents.show(record))
    click.echo(yaml.safe_dump(shown, sort_keys=False, allow_unicode=True).rstrip())
    if one == "Network":
        resolved = stored.snapshot([record])[0].networks.get(name)
        if resolved is not None:
            click.echo(f"means: attach {resolved.spec.attach}, transport {resolved.spec.transport}")
    if own:
        click.echo("blocks:")
        for block in own:
            click.echo(f"  {block.cidr}  network {block.spec.network}  node {block.spec.node}")


def _blocks_of(store: Store, kind: str, name: str) -> list[Block]:
    """Blocks of a network or of a node."""
    if kind not in ("Network", "Node"):  # a BGPPeer may have a node's name
        return []
    snapshot, _ = stored.snapshot(store.list("Block")[0])
    blocks = snapshot.blocks.values()
    return [b for b in blocks if name == (b.spec.network if kind == "Network" else b.spec.node)]


def _borrows_of(store: Store, kind: str, name: str) -> list[str]:
    """Addresses that were borrowed of a network, or by a node."""
    if kind not in ("Network", "Node"):
        return []
    borrows = stored.snapshot(store.list("Borrow")[0])[0].borrows
    return [a for a, b in borrows.items() if name == (b.spec.network if kind == "Network" else b.spec.node)]


@click.command()
@click.argument("kind", required=False)
@click.argument("name", required=False)
@click.option("-f", "--file", "path", help="delete what these documents declare")
@click.option(
    "--force", is_flag=True, help="also claimed blocks, or what has some: their pods lose the network"
)
@store_option
def delete(kind: str | None, name: str | None, path: str | None, force: bool, store: str) -> None:
    """Delete a resource by KIND and NAME, or those of a file. Pods' traffic stops with their network."""
    if path and not kind:
        targets = [(one.kind, one.name) for one in yaml_input.resources(path)]
    elif kind and name and not path:
        targets = [(one, name) for one in kinds_of(kind)]
    else:
        raise click.UsageError("give KIND and NAME, or -f FILE")
    with contextlib.closing(open_store(store)) as opened:
        for one, which in targets:
            opened.get(one, which)  # all are there, and may go, before the first goes
            if not force:
                _refuse_claimed(opened, one, which)
        for one, which in targets:
            for block in _blocks_of(opened, one, which):
                opened.delete("Block", block.cidr)
                click.echo(f"block {block.cidr} deleted")
            for address in _borrows_of(opened, one, which):
                opened.delete("Borrow", address)
                click.echo(f"borrow {address} deleted")
            opened.delete(one, which)
            click.echo(f"{one.lower()} {which} deleted")


def _refuse_claimed(store: Store, kind: str, name: str) -> None:
    fix = "podway ipam show tells on each node whether pods have addresses of them; --force deletes all"
    if kind in ("Block", "Borrow"):
        raise Conflict(f"{kind.lower()} {name} is a node's claim", fix=fix)
    owned = _blocks_of(store, kind, name)
    if borrowed := _borrows_of(store, kind, name):
        raise Conflict(f"{kind.lower()} {name} has borrowed addresses: {', '.join(borrowed[:3])}", fix=fix)
    if owned:
        cidrs = ", ".join(block.cidr for block in owned[:3]) + (", …" if len(owned) > 3 else "")
        raise Conflict(f"{kind.lower()} {name} has claimed blocks: {cidrs}", fix=fix)

"""``podway apply`` and ``podway diff``: what files declare, into the store or beside it."""

from __future__ import annotations

import contextlib
import difflib
import ipaddress
import os
import tempfile
from collections.abc import Iterable, Iterator

import click
import msgspec

from podway.cli import yaml_input
from podway.cli.options import store_option
from podway.cli.yaml_input import Placed
from podway.ipam.blocks import block_size
from podway.model import documents, stored
from podway.model.errors import Conflict, InvalidInput, PodwayError
from podway.model.problems import Problem
from podway.model.resources import Block, Network, Node
from podway.model.validation import cluster_problems
from podway.plan.change import Outlook, outlook
from podway.store import Exists, NoStore, NotFound, Record, Stale, Store, open_store

FILE = click.option("-f", "--file", "path", required=True, help="YAML or JSON documents; - is stdin")
DEFAULT_DIRECTORY = "/var/lib/podway"
ATTEMPTS = 20  # at a spec whose status an agent writes meanwhile


def _prepare_default(url: str) -> None:
    scheme, _, path = url.partition(":")
    if scheme == "sqlite" and os.path.dirname(path) == DEFAULT_DIRECTORY:
        os.makedirs(DEFAULT_DIRECTORY, mode=0o700, exist_ok=True)


def host_routes(bridges: Iterable[str]) -> list[str]:
    """Prefixes that this host reaches by routes that aren't Podway's, nor over ``bridges``.

    [] where they can't be read."""
    from podway.kernel.rtnetlink import Rtnetlink
    from podway.model.bgp import is_learned
    from podway.model.objects import ALIAS_PREFIX, MAIN_TABLE, ROUTE_PROTOCOL, Link, Route

    try:
        rtnetlink = Rtnetlink()
    except OSError:
        return []
    with contextlib.closing(rtnetlink):
        # all tables: asked for one that a new namespace doesn't have yet, the kernel answers ENOENT
        routes = rtnetlink.dump("route").values()
        links = rtnetlink.dump("link").values()
    own = {o.name for o in links if isinstance(o, Link) and (o.alias or "").startswith(ALIAS_PREFIX)}
    own |= set(bridges)
    return [
        r.dst
        for r in routes
        if isinstance(r, Route)
        and (r.table, r.type) == (MAIN_TABLE, "unicast")
        and r.protocol != ROUTE_PROTOCOL
        and not is_learned(r)
        and r.dev not in own
    ]


def check(store: Store, wanted: list[Placed]) -> None:
    """What must hold between the documents and what is stored. Raises InvalidInput with all of it."""
    records = [record for kind in ("Network", "Node") for record in store.list(kind)[0]]
    known, _ = stored.snapshot(records)
    declared = [one.resource for one in wanted]
    networks = known.networks | {r.name: documents.resolve(r) for r in declared if isinstance(r, Network)}
    nodes = known.nodes | {r.name: r for r in declared if isinstance(r, Node)}
    adopted = [n.spec.bridge.name for n in networks.values() if n.spec.bridge.adopt]
    places = {(one.kind, one.name): one for one in wanted}
    lines = [
        places[found.kind, found.name].at(found.problem)
        for found in cluster_problems(networks, nodes, host_routes(adopted))
        if (found.kind, found.name) in places
    ]
    for one in wanted:
        if isinstance(one.resource, Network):
            lines += [one.at(problem) for problem in _used_pools(store, one.resource)]
            clashes = _outlook(store, one.resource).clashes
            encrypted = documents.resolve(one.resource).spec.transport == "wireguard"
            field = "wireguard.port" if encrypted else "vxlan.vni"
            lines += [one.at(Problem(f"spec.{field}", text)) for text in clashes]
    if lines:
        raise InvalidInput("\n  ".join(lines), fix="nothing was changed")


def _outlook(store: Store, new: Network) -> Outlook:
    """What changing a stored network into ``new`` does to it."""
    records = [record for kind in ("Network", "Node", "Block") for record in store.list(kind)[0]]
    cluster, _ = stored.snapshot(records)
    old = cluster.networks.get(new.name)
    return outlook(old, documents.resolve(new), cluster) if old is not None else Outlook()


def _refuse_losses(store: Store, wanted: list[Placed]) -> None:
    """Raise Conflict when something can't be done without losing packets."""
    networks = [one.resource for one in wanted if isinstance(one.resource, Network)]
    losses = [f"network {n.name}: {loss}" for n in networks for loss in _outlook(store, n).losses]
    if losses:
        fix = "apply it with --allow-disruption if that is meant; podway diff shows all that happens"
        raise Conflict("this can't be done without loss: " + "\n  ".join(losses), fix=fix)


def _used_pools(store: Store, new: Network) -> list[Problem]:
    """A pool can't go while a node has a block of it."""
    kept = [ipaddress.ip_network(pool.cidr) for pool in new.spec.pools]
    problems = []
    for record in store.list("Block")[0]:
        block = stored.resource(record)
        if not isinstance(block, Block) or block.spec.network != new.name:
            continue
        claimed = ipaddress.ip_network(block.cidr)
        for number, pool in enumerate(new.spec.pools):
            size = block_size(documents.resolve(new), pool)
            if claimed[0] in kept[number] and claimed.prefixlen != size:
                what = f"block {block.cidr}, claimed by node {block.spec.node}, is none of /{size}"
                fix = f"say blockSize: {claimed.prefixlen}, or add another pool"
                problems.append(Problem(f"spec.pools[{number}].blockSize", what, fix))
        if not any(claimed[0] in pool for pool in kept):
            what = f"block {block.cidr}, claimed by node {block.spec.node}, would be in no pool"
            problems.append(Problem("spec.pools", what, "keep its pool until nobody has a block of it"))
    return problems


def _apply_one(store: Store, one: Placed) -> str:
    """Write one object, whatever is written to its status meanwhile. Raises PodwayError."""
    spec = documents.spec_json(one.resource)
    for _ in range(ATTEMPTS):
        try:
            stored = store.get(one.kind, one.name)
            if stored.spec == spec:
                return "unchanged"
            store.update_spec(msgspec.structs.replace(stored, spec=spec))
            return "changed"
        except Stale:
            continue
        except NotFound:
            pass
        try:
            store.create(Record(kind=one.kind, name=one.name, spec=spec))
            return "created"
        except Exists:
            continue
    raise Conflict("others go on changing it", f"{one.kind} {one.name}", "try again")


@click.command()
@FILE
@click.option("--allow-disruption", is_flag=True, help="also what can't be done without losing packets")
@store_option
def apply(path: str, allow_disruption: bool, store: str) -> None:
    """Create or change what FILE declares. Every document is checked before the first is written."""
    wanted = yaml_input.resources(path)
    _prepare_default(store)
    done: list[str] = []
    with contextlib.closing(open_store(store, create=True)) as opened:
        check(opened, wanted)
        if not allow_disruption:
            _refuse_losses(opened, wanted)
        for one in wanted:
            name = f"{one.kind.lower()} {one.name}"
            try:
                done.append(f"{name} {_apply_one(opened, one)}")
            except PodwayError as error:
                before = "; ".join(done) or "nothing"
                fix = f"{error.fix}; done before it: {before}" if error.fix else f"done before it: {before}"
                raise Conflict(f"{name}: {error.what}", error.where, fix) from error
            click.echo(done[-1])


@click.command()
@FILE
@store_option
def diff(path: str, store: str) -> None:
    """What apply would change, what happens then, and what it risks. Exit code 1 if anything."""
    wanted = yaml_input.resources(path)
    with _stored_or_nothing(store) as opened:
        check(opened, wanted)
        changes = [line for one in wanted for line in (*_difference(opened, one), *_foretold(opened, one))]
    for line in changes:
        click.echo(line)
    raise SystemExit(1 if changes else 0)


@contextlib.contextmanager
def _stored_or_nothing(url: str) -> Iterator[Store]:
    """The store, or an empty one in its place where apply would make it."""
    with contextlib.ExitStack() as stack:
        try:
            opened = open_store(url)
        except NoStore:
            place = stack.enter_context(tempfile.TemporaryDirectory())
            opened = open_store(f"sqlite:{place}/store.db", create=True)
        yield stack.enter_context(contextlib.closing(opened))


def _foretold(store: Store, one: Placed) -> Iterator[str]:
    if not isinstance(one.resource, Network):
        return
    found = _outlook(store, one.resource)
    if found.steps or found.risks or found.losses:
        yield f"what happens to network {one.name}:"
    yield from (f"  {number}. {step}" for number, step in enumerate(found.steps, 1))
    yield from (f"  risk: {risk}" for risk in found.risks)
    yield from (f"  loss: {loss} (apply asks for --allow-disruption)" for loss in found.losses)


def _difference(store: Store, one: Placed) -> list[str]:
    import yaml

    new = yaml.safe_dump(
        documents.veiled(documents.encode(one.resource)), sort_keys=False, allow_unicode=True
    ).splitlines()
    try:
        stored = documents.veiled(documents.show(store.get(one.kind, one.name)))
        old = yaml.safe_dump(stored, sort_keys=False, allow_unicode=True).splitlines()
    except NotFound:
        old = []
    title = f"{one.kind} {one.name}"
    return list(difflib.unified_diff(old, new, f"stored {title}", title, lineterm=""))

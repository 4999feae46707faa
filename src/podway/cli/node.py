"""Commands about this node: status, plan, journal, doctor, uninstall."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from podway.cli.options import agent_socket, node_options, socket_option
from podway.cli.output import as_json

if TYPE_CHECKING:
    from podway.model.objects import Op

SIGNS = {"create": "+", "change": "~", "delete": "-"}


def _line(op: Op) -> str:
    value = op.want if op.want is not None else op.have
    shown = {k: v for k, v in msgspec.to_builtins(value).items() if v not in (None, "", [], {}, 0)}
    return f"{SIGNS[op.verb]} {value.kind_name if value else '':10} {msgspec.json.encode(shown).decode()}"


@click.command()
@node_options
@socket_option
@click.option("--wait", is_flag=True, help="until the agent is ready: its peers programmed, and probed once")
@click.option("--timeout", default=30.0, show_default=True, help="seconds for --wait")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
def status(
    node: str, store: str, state_dir: str, socket: str | None, wait: bool, timeout: float, output: str
) -> None:
    """What this node's agent says of itself. Exit code 1 while it has a problem or (--wait) isn't ready."""
    from podway.model.errors import Unavailable
    from podway.observe import client, controller

    path = agent_socket(node, socket)
    deadline = time.monotonic() + timeout
    while True:
        try:
            found = client.status(path)
            if not wait or found.ready or time.monotonic() > deadline:
                break
        except Unavailable:
            if not wait or time.monotonic() > deadline:
                raise
        time.sleep(0.05)
    if output == "json":
        click.echo(as_json(found))
    else:
        click.echo(f"node {found.node}: podway {found.version}, up {found.uptime:.0f} s, store {found.store}")
        borrowed = f", and borrowed {', '.join(found.borrowed)}" if found.borrowed else ""
        blocks = ", ".join(found.blocks) or "none yet"
        click.echo(f"  {found.endpoints} pod interfaces in blocks {blocks}{borrowed}")
        if found.drop_in:
            click.echo(f"  {found.drop_in} pod interfaces by the reference plugins' names")
        click.echo(f"  {found.programmed} of {found.desired} wanted kernel objects stand")
        click.echo(f"  {found.readiness}")
        if found.peers:
            click.echo("  peers: " + ", ".join(f"{n} {name}" for name, n in sorted(found.peers.items())))
        for line in controller.lines(found.controller):
            click.echo(f"  {line}")
        for line in found.failing:
            click.echo(f"  {line}")
        for name in found.suspect:
            click.echo(f"  suspect: node {name} is not heard of in the store; its routes and blocks stay")
        for line in found.changing:
            click.echo(f"  changing: {line}")
        for problem in found.problems:
            click.echo(f"  problem: {problem}")
    raise SystemExit(1 if found.problems or (wait and not found.ready) else 0)


@click.command()
@node_options
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
def plan(node: str, store: str, state_dir: str, output: str) -> None:
    """What the agent would change in the kernel now, changing nothing. Exit code 1 if anything."""
    from podway.node.preview import preview

    found = preview(node, state_dir, store)
    ops, refusals = found.ops, found.refusals
    if found.trouble:
        click.echo(
            f"warning: by the last known state, of which nothing is removed: {found.trouble}", err=True
        )
    if output == "json":
        document = [{"verb": op.verb, "want": op.want, "have": op.have} for op in ops]
        click.echo(as_json(document))
    else:
        for op in ops:
            click.echo(_line(op))
        for refusal in refusals:
            click.echo(f"! {' '.join(refusal.key)}: {refusal.reason}; {refusal.fix}")
        click.echo(f"{len(ops)} changes" if ops else "nothing to change")
    raise SystemExit(1 if ops or refusals else 0)


@click.command()
@node_options
@click.option("-n", "--lines", default=50, show_default=True, help="how many of the newest entries")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
def journal(node: str, store: str, state_dir: str, lines: int, output: str) -> None:
    """What was programmed, repaired and removed: when, in how many ms, what was found, and who did it."""
    from podway.node.database import Database

    database = Database.open(state_dir, readonly=True)
    try:
        entries = database.journal(lines)
    finally:
        database.close()
    if output == "json":
        click.echo(as_json(entries))
        return
    for entry in entries:
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry.time))
        who = f"  by {entry.actor}" if entry.actor else ""
        took = f"{entry.milliseconds:.1f} ms  found " if entry.milliseconds else ""  # else nothing was mended
        click.echo(f"{stamp}  {entry.kind:10} {entry.key}  {took}{entry.found}{who}".rstrip())


@click.command()
@node_options
@socket_option
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
def doctor(node: str, store: str, state_dir: str, socket: str | None, output: str) -> None:
    """Whether this machine can run Podway and reaches its peers; what to mend. Exit code 1 if it can't run.

    What the agent says is wrong is a warning, and so is what is wrong with a peer: it may be the peer's."""
    from podway.kernel.preflight import checks
    from podway.observe import agent, bgp, machine, peers, plugins, routes
    from podway.observe import store as state

    path = agent_socket(node, socket)
    found = [*checks(), *machine.checks(), *plugins.checks()]
    found += [*state.checks(store), *bgp.checks(store), *routes.checks(store)]
    found += [*agent.checks(path), *peers.checks(path)]
    if output == "json":
        click.echo(as_json(found))
    else:
        for check in found:
            fix = f"  fix: {check.fix}" if check.fix and check.verdict != "ok" else ""
            click.echo(f"{check.verdict:8} {check.name:13} {check.detail}{fix}")
    raise SystemExit(1 if any(check.verdict == "failed" for check in found) else 0)


def _left_over(node: str, store: str) -> Iterator[str]:
    """What is not of the kernel, and would bring Podway back or keep others waiting for this node."""
    from podway.cni.install import installed
    from podway.cni.places import bin_dirs
    from podway.model.errors import PodwayError
    from podway.store import open_store

    for directory in bin_dirs():
        for path in installed(Path(directory)):
            yield f"{path}, so that the next pod brings all back; podway cni remove --bin-dir {directory}"
    try:
        with contextlib.closing(open_store(store)) as opened:
            opened.get("Node", node)
    except PodwayError:
        return  # not there, or out of reach
    yield f"node {node} in the store, with its blocks; podway delete node {node}"


@click.command()
@node_options
@click.option("--dry-run", is_flag=True, help="show what would be removed, and remove nothing")
def uninstall(node: str, store: str, state_dir: str, dry_run: bool) -> None:
    """Remove everything that Podway made on this node, and put back the sysctls it changed."""
    import asyncio

    from podway.bird.process import BirdProcess
    from podway.kernel.facade import Kernel
    from podway.node import uninstall as removing
    from podway.node.database import Database
    from podway.node.lock import WriterLock

    # looking is harmless beside an agent at work
    with contextlib.nullcontext() if dry_run else WriterLock(state_dir, 0.0):
        kernel = Kernel()
        database = Database.open(state_dir, readonly=dry_run)
        try:
            removal = removing.plan(kernel, database)
            for op in removal.ops:
                click.echo(_line(op))
            for kept in removal.kept:
                click.echo(f"! left: {kept}")
            bird = BirdProcess(Path(state_dir) / "bird")
            if bird.pid() is not None:
                click.echo(f"- bird       process {bird.pid()}")
            if dry_run:
                click.echo(f"{len(removal.ops)} things would be removed or put back")
                return
            asyncio.run(bird.end())
            results = removing.run(kernel, database, removal)
        finally:
            database.close()
            kernel.close()
    failed = [result for result in results if result.errno]
    for result in failed:
        click.echo(f"failed: {' '.join(result.op.key)}: {result.error}", err=True)
    click.echo(f"{len(results) - len(failed)} things removed or put back")
    for left in _left_over(node, store):
        click.echo(f"left: {left}")
    raise SystemExit(1 if failed else 0)

"""``podway bgp status|peers|routes``: what this node's BIRD does, and why where it doesn't."""

from __future__ import annotations

import click

from podway.agent.sessions import BgpStatus, PeerStatus
from podway.cli.options import agent_socket, socket_option
from podway.cli.output import as_json, columns
from podway.observe import client
from podway.observe.words import ago

OUTPUT = click.option("-o", "--output", type=click.Choice(["table", "wide", "json"]), default="table")
NODE = click.option("--node", envvar="PODWAY_NODE", help="whose agent [default: the host name]")


@click.group()
def bgp() -> None:
    """What this node's BGP speaker does."""


@bgp.command()
@OUTPUT
@NODE
@socket_option
def status(output: str, node: str | None, socket: str | None) -> None:
    """The speaker in a few lines. Exit code 1 when something is wrong."""
    found = client.bgp(agent_socket(node, socket))
    click.echo(as_json(found) if output == "json" else _shown(found))
    raise SystemExit(1 if found.problems else 0)


@bgp.command()
@OUTPUT
@NODE
@socket_option
def peers(output: str, node: str | None, socket: str | None) -> None:
    """Every session: its state, since when, and why it is down."""
    found = client.bgp(agent_socket(node, socket))
    if output == "json":
        click.echo(as_json(found.peers))
        return
    titles = ["PEER", "ADDRESS", "AS", "STATE", "SINCE", "PREFIXES", "BFD"]
    more = ["FLAPS", "SESSION"]
    rows = [_row(one, output == "wide") for one in found.peers]
    if not rows:
        click.echo("no BGP peers")
        return
    click.echo(columns(titles + (more if output == "wide" else []) + ["WHY"], rows))


@bgp.command()
@OUTPUT
@NODE
@socket_option
def routes(output: str, node: str | None, socket: str | None) -> None:
    """Every route that a peer has told.

    The best of each prefix is marked *."""
    found = client.bgp_routes(agent_socket(node, socket))
    if output == "json":
        click.echo(as_json(found))
        return
    names = {peer.name: peer.shown for peer in client.bgp(agent_socket(node, socket)).peers}
    rows = [
        [
            "*" if one.best else "",
            one.prefix,
            ", ".join(one.via) or "-",
            names.get(one.session, one.session),
            one.as_path or "-",
            one.local_pref or "-",
            one.communities or "-",
        ]
        for one in found
    ]
    titles = ["", "PREFIX", "NEXT HOP", "PEER", "AS PATH", "PREFERENCE", "COMMUNITIES"]
    click.echo(columns(titles, rows) if rows else "no BGP routes")


def _shown(found: BgpStatus) -> str:
    if not found.version and not found.problems:
        return "no network is carried by BGP here"
    up = sum(peer.state == "Established" for peer in found.peers)
    whom = "" if up or not found.peers else " (to nobody now)"
    process = f"process {found.pid}" if found.pid else "not running"
    lines = [
        f"BIRD {found.version or '-'}, {process}, AS {found.local_as}, "
        f"router ID {found.router_id}{', reflector' if found.reflector else ''}"
        f"{', draining' if found.draining else ''}",
        f"  sessions: {up} of {len(found.peers)} up",
        f"  announces: {', '.join((*found.own, *found.advertised)) or 'nothing yet'}{whom}",
    ]
    return "\n".join(lines + [f"  problem: {problem}" for problem in found.problems])


def _row(one: PeerStatus, wide: bool) -> list[str]:
    prefixes = "/".join(str(counts.imported) for counts in one.channels.values()) or "-"
    row = [
        one.shown,
        one.neighbor,
        str(one.remote_as),
        one.state,
        ago(one.since),
        prefixes,
        one.bfd or "-",
    ]
    return row + ([str(one.flaps), one.name] if wide else []) + [one.why]

"""``podway cni``: put the CNI plugin where container runtimes look for it, and take it away."""

from __future__ import annotations

import contextlib
from pathlib import Path

import click

from podway.cli.options import BIN_DIR, CONF_DIR, cni_socket, node_options

_BIN = click.option(
    "--bin-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=BIN_DIR,
    show_default=True,
    help="where the runtime looks for CNI executables",
)
_CONF = click.option(
    "--conf-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=CONF_DIR,
    show_default=True,
    help="where the runtime looks for CNI configurations",
)


@click.group()
def cni() -> None:
    """The CNI plugin for container runtimes."""


@cni.command()
@_BIN
@_CONF
@click.option("--network", required=True, help="the Network that the runtime's pods attach to")
@click.option(
    "--socket", envvar="PODWAY_SOCKET", help="the agent's socket [default: /run/podway/NODE/cni.sock]"
)
@node_options
def install(
    bin_dir: Path, conf_dir: Path, network: str, socket: str | None, node: str, store: str, state_dir: str
) -> None:
    """Install executable and configuration, atomically. Run again, it changes nothing."""
    from podway.cni import install as installer

    changed = installer.install(
        bin_dir,
        conf_dir,
        network,
        socket or cni_socket(node),
        installer.fallback_command(node, state_dir, store),
    )
    for path in changed:
        click.echo(f"installed {path}")
    if not changed:
        click.echo("nothing to change")
    if trouble := _absent(network, store):
        click.echo(f"warning: no pod can attach to network {network} yet: {trouble}", err=True)


def _absent(network: str, store: str) -> str:
    """Why a network can't be found, "" when it is there."""
    from podway.model.errors import PodwayError
    from podway.store import open_store

    try:
        with contextlib.closing(open_store(store)) as opened:
            opened.get("Network", network)
    except PodwayError as error:
        return str(error)
    return ""


@cni.command()
@_BIN
@_CONF
@click.option("--network", default="", help="only this network's configuration [default: all of Podway's]")
def remove(bin_dir: Path, conf_dir: Path, network: str) -> None:
    """Remove what install made, and nothing else."""
    from podway.cni import install as installer

    removed, left = installer.remove(bin_dir, conf_dir, network)
    for path in removed:
        click.echo(f"removed {path}")
    for path in left:
        click.echo(f"left {path}: it was changed since it was installed", err=True)
    if not removed and not left:
        click.echo("nothing to remove")


_IFNAME = click.option("--ifname", default="eth0", show_default=True, help="its interface's name")


def _by_hand(command: str, network: str, namespace: str, ifname: str, ip: str, *places: Path) -> str:
    from podway.cni import byhand

    return byhand.carry_out(command, network, namespace, ifname, ip, byhand.Places(*places))


@cni.command()
@click.argument("network")
@click.argument("namespace")
@_IFNAME
@click.option("--ip", default="", help="an address of the network's that it shall have")
@_BIN
@_CONF
def add(network: str, namespace: str, ifname: str, ip: str, bin_dir: Path, conf_dir: Path) -> None:
    """Attach NAMESPACE, a name of "ip netns" or a path, as a runtime would. Prints the result."""
    click.echo(_by_hand("ADD", network, namespace, ifname, ip, bin_dir, conf_dir).rstrip())


@cni.command("del")
@click.argument("network")
@click.argument("namespace")
@_IFNAME
@_BIN
@_CONF
def detach(network: str, namespace: str, ifname: str, bin_dir: Path, conf_dir: Path) -> None:
    """Detach NAMESPACE again."""
    _by_hand("DEL", network, namespace, ifname, "", bin_dir, conf_dir)


@cni.command()
@click.argument("network")
@click.argument("namespace")
@_IFNAME
@_BIN
@_CONF
def check(network: str, namespace: str, ifname: str, bin_dir: Path, conf_dir: Path) -> None:
    """Whether NAMESPACE still has everything that add made. Exit code 1 if not."""
    _by_hand("CHECK", network, namespace, ifname, "", bin_dir, conf_dir)

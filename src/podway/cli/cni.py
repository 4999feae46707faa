"""``podway cni``: put the CNI plugin where container runtimes look for it, and take it away."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import click

from podway.cli.options import cni_socket, node_options
from podway.cni.places import CONF_DIR, bin_dir_of_runtime

_BIN = click.option(
    "--bin-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=bin_dir_of_runtime,
    show_default="containerd's, else /opt/cni/bin",
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


_DROP_IN = click.option(
    "--drop-in",
    is_flag=False,
    flag_value="all",
    default=None,
    metavar="[NAMES]",
    help="the reference plugins' names, as bridge,portmap [default of a bare --drop-in: all]",
)


@cni.command()
@_BIN
@_CONF
@click.option("--network", default="", help="the Network that the runtime's pods attach to")
@_DROP_IN
@click.option("--replace", is_flag=True, help="with --drop-in: put others' executables aside")
@click.option(
    "--socket", envvar="PODWAY_SOCKET", help="the agent's socket [default: /run/podway/NODE/cni.sock]"
)
@node_options
def install(
    bin_dir: Path,
    conf_dir: Path,
    network: str,
    drop_in: str | None,
    replace: bool,
    socket: str | None,
    node: str,
    store: str,
    state_dir: str,
) -> None:
    """Install a network's executable and configuration, or drop-ins.

    Atomically. Drop-ins have the names of the reference plugins. Run again, it changes nothing."""
    from podway.cni import install as installer
    from podway.cni import install_dropin

    if not network and drop_in is None:
        raise click.UsageError("name a --network, or --drop-in")
    socket, fallback = socket or cni_socket(node), installer.fallback_command(node, state_dir, store)
    changed = []
    if drop_in is not None:
        changed += _install_names(bin_dir, drop_in, socket, fallback, replace)
        _make_store(store)
    if network:
        changed += installer.install(bin_dir, conf_dir, network, socket, fallback)
        changed += install_dropin.complete(bin_dir, socket, fallback)
    for path in changed:
        click.echo(f"installed {path}")
    if not changed:
        click.echo("nothing to change")
    if network and (trouble := _absent(network, store)):
        click.echo(f"warning: no pod can attach to network {network} yet: {trouble}", err=True)


def _install_names(bin_dir: Path, text: str, socket: str, fallback: list[str], replace: bool) -> list[Path]:
    """Asks on a terminal before anything foreign is put aside."""
    from podway.cni import install_dropin as installer

    names = installer.chosen(text)
    foreign = installer.foreign(bin_dir, names)
    if foreign and not replace and sys.stdin.isatty():
        which = ", ".join(path.name for path in foreign)
        replace = click.confirm(f"{bin_dir} has others' {which}: put them aside and take their place?")
    return installer.install(bin_dir, names, socket, fallback, replace)


def _make_store(store: str) -> None:
    """A machine that serves the reference plugins' names alone declares no Network: its agent needs a store
    all the same, or it would take an empty one for one that was lost."""
    from podway.model.errors import PodwayError
    from podway.store import open_store

    scheme, _, path = store.partition(":")
    if scheme == "sqlite":
        Path(path).absolute().parent.mkdir(parents=True, exist_ok=True)
    try:
        open_store(store, create=True).close()
    except PodwayError as error:
        click.echo(f"warning: the store can't be opened: {error}", err=True)


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
@_DROP_IN
@click.option("--force", is_flag=True, help="even while containers are attached by it")
def remove(bin_dir: Path, conf_dir: Path, network: str, drop_in: str | None, force: bool) -> None:
    """Remove what install made, and nothing else.

    What it put aside comes back.
    With --network or --drop-in only that.

    Refused while containers are attached by it:
    what comes back can't free what they have."""
    from podway.cni import install as installer
    from podway.cni import install_dropin

    names = install_dropin.chosen(drop_in or "all") if drop_in is not None or not network else []
    networks = bool(network) or drop_in is None
    if not force:
        install_dropin.require_unused(bin_dir, names)
        if networks:
            installer.require_unused(bin_dir, conf_dir, network)
    done = [install_dropin.remove(bin_dir, names)] if names else []
    if networks:
        done.append(installer.remove(bin_dir, conf_dir, network))
    for one in done:
        for path in one.removed:
            click.echo(f"removed {path}")
        for path in one.restored:
            click.echo(f"put back {path}")
        for path in one.left:
            click.echo(f"left {path}: it was changed since it was installed", err=True)
    if not any(any(one) for one in done):
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
    """Attach NAMESPACE as a runtime would.

    It is a name of "ip netns" or a path. Prints the result."""
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

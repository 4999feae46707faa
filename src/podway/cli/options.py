"""Options that several commands share."""

from __future__ import annotations

import functools
import socket
from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def _check(name: str, where: str) -> None:
    """A node's name is that of an object in the store and of directories."""
    from podway.model.documents import NAME
    from podway.model.errors import InvalidInput

    if not NAME.fullmatch(name):
        fix = "--node with lower case letters, digits and - inside, at most 63 characters"
        raise InvalidInput(f"{name!r} is no name for a node", where, fix)


def listen_address(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """ADDRESS:PORT as it is given, [ADDRESS]:PORT for IPv6, "" for none. Raises BadParameter."""
    host, _, port = value.rpartition(":")
    if value and not (host and port.isascii() and port.isdigit() and int(port) < 65536):
        raise click.BadParameter(f"{value!r} is not ADDRESS:PORT, such as 127.0.0.1:9177", context, parameter)
    return value


def store_option(function: F) -> F:
    """``--store``, the same everywhere."""
    option = click.option(
        "--store",
        envvar="PODWAY_STORE",
        default="sqlite:/var/lib/podway/store.db",
        show_default=True,
        help="where the cluster's state is",
    )
    return option(function)


def socket_option(function: F) -> F:
    """``--socket``, of commands that ask the agent."""
    option = click.option(
        "--socket", envvar="PODWAY_SOCKET", help="the agent's CNI socket [default: /run/podway/NODE/cni.sock]"
    )
    return option(function)


def cni_socket(node: str) -> str:
    """Where a node's agent takes CNI calls unless it is told another place."""
    return f"/run/podway/{node}/cni.sock"


def agent_socket(node: str | None, cni: str | None) -> str:
    """The socket beside the CNI one where a node's agent answers questions."""
    cni = cni or cni_socket(node or own_name())
    return cni.rpartition("/")[0] + "/agent.sock"


def own_name() -> str:
    """This node's name unless it is told another: the host name."""
    return socket.gethostname().partition(".")[0].lower()


def node_options(function: F) -> F:
    """``--node``, ``--store`` and ``--state-dir`` with the defaults of a machine that is one node."""

    @click.option("--node", envvar="PODWAY_NODE", help="this node's name [default: the host name]")
    @click.option(
        "--store",
        envvar="PODWAY_STORE",
        default="sqlite:/var/lib/podway/store.db",
        show_default=True,
        help="where the cluster's state is",
    )
    @click.option(
        "--state-dir", envvar="PODWAY_STATE_DIR", help="local state [default: /var/lib/podway/NODE]"
    )
    @functools.wraps(function)
    def command(*args: Any, node: str | None, state_dir: str | None, **rest: Any) -> Any:
        name = node or own_name()
        _check(name, "--node" if node else "the host name")
        return function(*args, node=name, state_dir=state_dir or f"/var/lib/podway/{name}", **rest)

    return command  # type: ignore[return-value]

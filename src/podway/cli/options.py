"""Options that several commands share."""

from __future__ import annotations

import functools
import socket
from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


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


def agent_socket(node: str | None, cni: str | None) -> str:
    """The socket beside the CNI one where a node's agent answers questions."""
    cni = cni or f"/run/podway/{node or own_name()}/cni.sock"
    return cni.rpartition("/")[0] + "/agent.sock"


def own_name() -> str:
    """This node's name unless it is told another: the host name."""
    return socket.gethostname().partition(".")[0]


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
        return function(*args, node=name, state_dir=state_dir or f"/var/lib/podway/{name}", **rest)

    return command  # type: ignore[return-value]

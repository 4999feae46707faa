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
        name = node or socket.gethostname().partition(".")[0]
        return function(*args, node=name, state_dir=state_dir or f"/var/lib/podway/{name}", **rest)

    return command  # type: ignore[return-value]

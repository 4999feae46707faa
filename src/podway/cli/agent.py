"""``podway agent``."""

from __future__ import annotations

import asyncio

import click

from podway.cli.options import listen_address, node_options


@click.command()
@node_options
@click.option(
    "--socket", envvar="PODWAY_SOCKET", help="Unix socket for CNI calls [default: /run/podway/NODE/cni.sock]"
)
@click.option(
    "--listen",
    default="127.0.0.1:9177",
    show_default=True,
    callback=listen_address,
    help="ADDRESS:PORT of /metrics and /healthz, empty for none",
)
@click.option(
    "--probe-port",
    type=click.IntRange(1, 65535),
    default=9178,
    show_default=True,
    help="UDP port of the echo that agents ask of each other, the same on every node",
)
@click.option("--log-level", default="info", type=click.Choice(["debug", "info", "warning", "error"]))
def agent(
    node: str, store: str, state_dir: str, socket: str | None, listen: str, probe_port: int, log_level: str
) -> None:
    """Run the agent of this node in the foreground, until SIGTERM."""
    from podway.agent.agent import Agent, Options
    from podway.kernel.preflight import require
    from podway.model.errors import PodwayError

    options = Options(
        node=node,
        store=store,
        state_dir=state_dir,
        socket=socket or f"/run/podway/{node}/cni.sock",
        listen=listen,
        probe_port=probe_port,
        log_level=log_level,
    )
    try:
        asyncio.run(Agent(options).run())
    except (PodwayError, OSError):
        require()  # what the machine lacks says more than what failed for it
        raise

"""``podway agent``."""

from __future__ import annotations

import asyncio

import click

from podway.cli.options import cni_socket, listen_address, node_options


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
@click.option(
    "--address",
    "addresses",
    multiple=True,
    envvar="PODWAY_ADDRESS",
    help="this node's address/length; one a family",
)
@click.option(
    "--interface",
    "interfaces",
    multiple=True,
    envvar="PODWAY_INTERFACE",
    help="find it on this link; name or regex",
)
@click.option("--cidr", "cidrs", multiple=True, envvar="PODWAY_CIDR", help="find it in this prefix")
@click.option(
    "--can-reach", default="", envvar="PODWAY_CAN_REACH", help="find the one that reaches this address"
)
@click.option(
    "--skip-interface", "skip", multiple=True, envvar="PODWAY_SKIP_INTERFACE", help="never on this link"
)
@click.option("--log-level", default="info", type=click.Choice(["debug", "info", "warning", "error"]))
def agent(
    node: str,
    store: str,
    state_dir: str,
    socket: str | None,
    listen: str,
    probe_port: int,
    log_level: str,
    addresses: tuple[str, ...],
    interfaces: tuple[str, ...],
    cidrs: tuple[str, ...],
    can_reach: str,
    skip: tuple[str, ...],
) -> None:
    """Run the agent of this node in the foreground, until SIGTERM.

    Which of the machine's addresses is the node's: what its Node document says, else the options here,
    else the first of each family on the link with the default route.
    """
    from podway.agent.agent import Agent, Options
    from podway.kernel.preflight import require
    from podway.model.errors import InvalidInput, PodwayError
    from podway.model.resources import DetectSpec, NodeSpec
    from podway.model.validation import node_problems
    from podway.node import facts

    spec = DetectSpec(interfaces=interfaces, cidrs=cidrs, can_reach=can_reach, skip=skip)
    for problem in node_problems(NodeSpec(addresses=addresses, detect=spec)):
        raise InvalidInput(problem.what, f"--{problem.path.removeprefix('spec.')}", problem.fix)
    facts.save(state_dir, facts.Local(addresses=addresses, detect=spec))
    options = Options(
        node=node,
        store=store,
        state_dir=state_dir,
        socket=socket or cni_socket(node),
        listen=listen,
        probe_port=probe_port,
        log_level=log_level,
    )
    try:
        asyncio.run(Agent(options).run())
    except (PodwayError, OSError):
        require()  # what the machine lacks says more than what failed for it
        raise

"""``podway lab``: many nodes on this machine, each with its own agent."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from podway.cli.output import as_json

if TYPE_CHECKING:
    from podway.lab.topology import Topology

DEFAULT_NAME = "lab"
NAME = click.option("--name", help="which lab [default: the only one]")
OUTPUT = click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
NODES = click.option("--nodes", type=click.IntRange(1, 250), help="how many nodes [default: 3]")
PODS = click.option("--pods", type=click.IntRange(0, 250), help="how many pods on each node [default: 2]")
PRESET = click.option(
    "--preset", help="the network's, see podway explain network.spec.preset [default: flannel-host-gw]"
)
FILE = click.option("-f", "--file", "path", help="a topology in YAML (docs/lab.md); - is stdin")


def _topology(path: str | None, nodes: int | None, pods: int | None, preset: str | None) -> Topology:
    """What is asked for. Raises InvalidInput, with file and line."""
    from podway.lab import topology, topology_file
    from podway.model.errors import InvalidInput
    from podway.model.problems import suggest
    from podway.model.resources import PRESETS

    if path is not None:
        if (nodes, pods, preset) != (None, None, None):
            raise InvalidInput("-f says everything", fix="leave out --nodes, --pods and --preset")
        from podway.cli import yaml_input

        return yaml_input.one(path, topology_file.decode)
    if preset is not None and preset not in PRESETS:
        raise InvalidInput(f"{preset!r} is no preset", "--preset", suggest(preset, PRESETS))
    return topology.default(
        topology.NODES if nodes is None else nodes,
        topology.PODS if pods is None else pods,
        preset or topology.PRESET,
    )


@click.group()
def lab() -> None:
    """Many nodes on this machine: segments, routers, nodes with agents, pods.

    Nothing of a lab is visible in this machine's own network; killing its init ends it."""


@lab.command()
@NODES
@PODS
@PRESET
@FILE
@click.option("--name", default=DEFAULT_NAME, show_default=True, help="what to call it")
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="where it keeps its files [default: /run/podway/lab/NAME]",
)
def up(
    nodes: int | None,
    pods: int | None,
    preset: str | None,
    path: str | None,
    name: str,
    directory: Path | None,
) -> None:
    """Start a lab. It stays until podway lab down."""
    from podway.lab import drawing
    from podway.lab import lab as labs
    from podway.lab.condition import look

    topology = _topology(path, nodes, pods, preset)
    labs.preflight()
    with labs.terminable(), drawing.progress() as show:
        place, saved = labs.up(name, topology, directory, show)
    click.echo(drawing.summary(topology, saved.seconds))
    for node in look(place).nodes:
        for problem in node.problems:
            click.echo(f"  {node.name}: {problem}")
    click.echo(f"next: podway lab test --name {name}; the end of it: podway lab down --name {name}")


@lab.command()
@click.option("--name", help="which lab [default: all]")
@OUTPUT
def status(name: str | None, output: str) -> None:
    """The labs of this machine and their nodes. Exit code 1 unless each is up without a problem."""
    from podway.lab import drawing
    from podway.lab.condition import look
    from podway.lab.place import find, labs

    found = [look(place) for place in ([find(name)] if name else labs().values())]
    if output == "json":
        click.echo(as_json(found))
    elif not found:
        click.echo("there is no lab")
    else:
        screen = drawing.console()
        for one in found:
            drawing.condition(screen, one)
    raise SystemExit(0 if all(one.ok for one in found) else 1)


@lab.command("exec", context_settings={"ignore_unknown_options": True})
@NAME
@click.argument("target")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def execute(name: str | None, target: str, command: tuple[str, ...]) -> None:
    """Run a command in a pod, node, router or host.

    Its exit code is the command's."""
    _enter(name, target, command)


@lab.command()
@NAME
@click.argument("target", default="")
def shell(name: str | None, target: str) -> None:
    """A shell in a node or pod.

    Without one, where the segments' bridges are (ip netns works there)."""
    _enter(name, target, (os.environ.get("SHELL", "/bin/sh"),))


def _enter(name: str | None, target: str, command: tuple[str, ...]) -> None:
    from podway.lab import lab as labs
    from podway.lab.place import find

    place = find(name)
    arguments = labs.command(place, target, command)
    os.execvpe(arguments[0], arguments, labs.environment(place, target))


@lab.command()
@NAME
@OUTPUT
@click.option(
    "--between",
    type=click.Choice(["all", "pods", "nodes"]),
    default="all",
    show_default=True,
    help="pairs of pods or of nodes alone",
)
def test(name: str | None, output: str, between: str) -> None:
    """Try every pair of pods and nodes, both ways. Exit code 0 only if all were reached without NAT."""
    from podway.lab import drawing, matrix
    from podway.lab import lab as labs
    from podway.lab.neighbours import crowded
    from podway.lab.place import find

    place = find(name)
    with drawing.progress() as show:
        verdicts = labs.test(place, show, between)
    result = matrix.summarize(verdicts)
    if not result.ok and (words := crowded()):
        click.echo(f"warning: {words}", err=True)
    if output == "json":
        document = {"ok": result.ok, "pairs": result.pairs, "reached": result.reached, "probes": verdicts}
        click.echo(as_json(document))
    else:
        drawing.matrix(drawing.console(), verdicts)
    raise SystemExit(0 if result.ok else 1)


@lab.command()
@NAME
@click.argument("one")
@click.argument("other", default="")
@click.option("--only", default="", help="only such packets: udp/8472, tcp/179 or proto/4 [default: all]")
@click.option("--larger", type=click.IntRange(0), default=0, help="only packets of more bytes than this")
@click.option("--loss", type=float, default=100.0, show_default=True, help="percent of them that are lost")
@click.option("--one-way", is_flag=True, help="only from ONE to OTHER")
def partition(
    name: str | None, one: str, other: str, only: str, larger: int, loss: float, one_way: bool
) -> None:
    """Let nothing pass between ONE and OTHER (all others).

    Each is some machines or segments: a,b."""
    from podway.lab import control
    from podway.lab.faults import Fault
    from podway.lab.place import find

    sides = [tuple(filter(None, side.split(","))) for side in (one, other)]
    fault = Fault(one=sides[0], other=sides[1], only=only, larger=larger, loss=loss, one_way=one_way)
    control.partition(find(name), fault)
    click.echo(f"{fault.words}; the end of it: podway lab heal{_of(name)}")


def _of(name: str | None) -> str:
    """The option for a lab that was named, in a command to type next."""
    return f" --name {name}" if name else ""


@lab.command()
@NAME
@click.argument("names", nargs=-1)
def heal(name: str | None, names: tuple[str, ...]) -> None:
    """Take back all faults, or those of NAMES."""
    from podway.lab import control
    from podway.lab.place import find

    for fault in control.heal(find(name), names):
        click.echo(f"healed: {fault.words}")


@lab.command()
@NAME
@click.argument("node")
def crash(name: str | None, node: str) -> None:
    """Cut a node's power.

    Its processes die at once, its links and pods are gone; its disk stays."""
    from podway.lab import control
    from podway.lab.place import find

    control.crash(find(name), node)
    click.echo(f"{node} is off; podway lab reboot{_of(name)} {node}")


@lab.command()
@NAME
@click.argument("node")
def reboot(name: str | None, node: str) -> None:
    """Start a node again, with a new boot id and its pods.

    One that isn't off is crashed first."""
    from podway.lab import control
    from podway.lab.place import find

    control.reboot(find(name), node)
    click.echo(f"{node} is up")


@lab.command("add-node")
@NAME
@click.argument("node")
@click.option("--segment", help="where it is plugged in [default: the first segment]")
@click.option("--mtu", type=click.IntRange(1280), help="of its link [default: the segment's]")
@click.option("--pods", type=click.IntRange(0, 250), default=2, show_default=True, help="how many pods")
@click.option("--network", default="", help="of its pods [default: the first network]")
def add_node(
    name: str | None, node: str, segment: str | None, mtu: int | None, pods: int, network: str
) -> None:
    """Let a node join a lab that is up."""
    from podway.lab import control
    from podway.lab.place import find
    from podway.lab.topology import Wish, pod_names
    from podway.lab.topology_file import NAME as LEGAL
    from podway.model.errors import InvalidInput

    if not LEGAL.fullmatch(node):
        raise InvalidInput(f"{node!r} is no legal name", fix="lower case letters, digits, -")
    place = find(name)
    where = segment or place.saved().topology.segments[0].name
    wish = Wish(name=node, role="node", segments=(where,), mtu=mtu or 0, pods=pod_names(node, pods))
    machine = control.add_node(place, wish, network).machine(node)
    click.echo(f"{node} has joined, {', '.join(machine.ports[0].addresses)}")


@lab.command("remove-node")
@NAME
@click.argument("node")
def remove_node(name: str | None, node: str) -> None:
    """Let a node leave for good.

    Its pods stop, its Node and blocks are deleted."""
    from podway.lab import control
    from podway.lab.place import find

    control.remove_node(find(name), node)
    click.echo(f"{node} has left")


@lab.command()
@NAME
@click.option("--all", "every", is_flag=True, help="all labs of this machine, dead ones too")
def down(name: str | None, every: bool) -> None:
    """End a lab and remove all that is left of it."""
    from podway.lab.lab import destroy as end
    from podway.lab.place import find, labs
    from podway.model.errors import InvalidInput

    if name and every:
        raise InvalidInput("--all ends every lab", fix="leave out --name, or --all")
    places = list(labs().values()) if every else [find(name)]
    for place in places:
        alive = end(place)
        click.echo(
            f"lab {place.name} ended" if alive else f"lab {place.name} was dead; its directory is removed"
        )
    if not places:
        click.echo("there is no lab")


@lab.command()
@NODES
@PODS
@PRESET
@FILE
def demo(nodes: int | None, pods: int | None, preset: str | None, path: str | None) -> None:
    """Labs from start to end: up, all pairs, a walk, down.

    Without options four of them: one host's bridge, host-gw, VXLAN and BGP, side by side in a table."""
    from podway.lab import demo as demonstration
    from podway.lab import lab as labs

    labs.preflight()
    with labs.terminable():
        if (nodes, pods, preset, path) == (None, None, None, None):
            ok = demonstration.tour()
        else:
            ok = demonstration.run(_topology(path, nodes, pods, preset)).result.ok
    raise SystemExit(0 if ok else 1)

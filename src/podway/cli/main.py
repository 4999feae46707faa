"""The ``podway`` command: a table of commands, each imported when it is called."""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from podway.model.errors import PodwayError

#: command → (where it is, what help says without importing it)
COMMANDS = {
    "agent": ("podway.cli.agent:agent", "Run the agent of this node."),
    "apply": ("podway.cli.apply:apply", "Create or change what documents declare."),
    "bgp": ("podway.cli.bgp:bgp", "What this node's BGP speaker does: status, peers, routes."),
    "cni": ("podway.cli.cni:cni", "Install or remove the CNI executable and its configuration."),
    "delete": ("podway.cli.resources:delete", "Delete resources."),
    "describe": ("podway.cli.resources:describe", "Everything about one resource."),
    "diff": ("podway.cli.apply:diff", "What apply would change."),
    "doctor": ("podway.cli.node:doctor", "Whether this machine can run Podway, and what to mend."),
    "explain": ("podway.cli.explain:explain", "What a kind or field means."),
    "get": ("podway.cli.resources:get", "List resources."),
    "ipam": ("podway.cli.ipam:ipam", "Blocks and addresses: show, check, release."),
    "journal": ("podway.cli.node:journal", "What was repaired, when, how fast, and who changed it."),
    "lab": ("podway.cli.lab:lab", "Many nodes on this machine."),
    "plan": ("podway.cli.node:plan", "What the agent would change in the kernel."),
    "status": ("podway.cli.node:status", "What this node's agent says of itself."),
    "uninstall": ("podway.cli.node:uninstall", "Remove all that Podway made on this node."),
    "version": ("podway.cli.main:version", "The version."),
}


class LazyGroup(click.Group):
    """Imports a command's module when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All of COMMANDS."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """With a suggestion for what is no command."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from podway.model.problems import suggest

            ctx.fail(f"{args[0]!r} is no command; {suggest(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table's help texts, so that ``--help`` imports nothing."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, words) for name, (_, words) in COMMANDS.items()])


def _print_version(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        context.invoke(version)
        context.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="show the version",
)
@click.option("--debug", is_flag=True, help="show where an error came from")
def podway(debug: bool) -> None:
    """The pod network of this machine or cluster."""


@click.command()
def version() -> None:
    """The version."""
    import podway as package

    click.echo(f"podway {package.__version__}")


def main() -> None:
    """Entry point of the ``podway`` script: errors whose cause is known come without a traceback."""
    from podway.model.errors import PodwayError

    try:
        code = podway.main(standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except BrokenPipeError:
        # whoever read our output has seen enough; the interpreter's own flush would complain again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if "--debug" in sys.argv[1:2]:
            raise
        expected = isinstance(error, PodwayError | OSError)
        sys.exit(_tell(error if expected else _unexpected(error)))
    sys.exit(code if isinstance(code, int) else 0)


def _unexpected(error: Exception) -> PodwayError:
    from podway.model.errors import PodwayError

    what = f"unexpected {type(error).__name__}: {error}"
    return PodwayError(what, fix="this is a defect of podway; podway --debug … shows where")


def _tell(error: BaseException) -> int:
    from podway.model.errors import PodwayError

    if isinstance(error, PodwayError):
        lines = [f"error: {error.what}"]
        lines += [f"  where: {error.where}"] if error.where else []
        lines += [f"  fix:   {error.fix}"] if error.fix else []
    else:
        lines = [f"error: {error}"]
    click.echo("\n".join(lines), err=True)
    return 1

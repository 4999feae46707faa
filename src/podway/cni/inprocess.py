"""One call carried out without an agent: ``python -m podway.cni.inprocess --node … --state-dir … --store …``.

The executable becomes this when no agent listens, or when the agent serves another network
namespace (``home.py``). The result is the same, only slower. Two writers never meet: ``open_engine``
holds the node's writer lock for the operation. While somebody else holds it, that may be an agent
that has just started, so its socket is tried again; after PATIENCE it is code 11.

stdout carries the answer and nothing else: whatever else would print goes to stderr.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from podway.cni import home, plugin, shim, wire
from podway.cni.answer import failure
from podway.cni.config import answer_version
from podway.cni.errors import CniError
from podway.cni.protocol import Answer, Call
from podway.cni.steps import drive
from podway.model.errors import Busy, InvalidInput, PodwayError

if TYPE_CHECKING:
    from podway.node.engine import NodeEngine

PATIENCE = 20.0  # seconds: a hundred calls at once, one after the other
_PAUSE = 0.02

#: Opens the engine of a node, or raises Busy while another process is its writer.
OpenEngine = Callable[[str, str, str], AbstractContextManager["NodeEngine"]]


def carry_out(
    stdin: bytes, options: dict[str, str], opener: OpenEngine, patience: float = PATIENCE
) -> Answer:
    """The answer to this process's call: its environment, ``stdin``, and the engine of ``opener``."""
    command, version = os.environ.get("CNI_COMMAND", ""), answer_version(stdin)
    try:
        message, descriptors = shim.gather(stdin)
        call = _call(message, descriptors)
        with contextlib.ExitStack() as stack:
            for fd in descriptors:
                stack.callback(os.close, fd)
            engine = _open(stack, opener, options, lambda: _ask_again(message, descriptors), patience)
            if isinstance(engine, Answer):
                return engine
            return drive(plugin.steps(call), engine)
    except Exception as error:
        return failure(error, version, command)


def _call(message: wire.Message, descriptors: list[int]) -> Call:
    return Call(
        argv0=os.fsdecode(message.argv0),
        env={os.fsdecode(name): os.fsdecode(value) for name, value in message.env},
        path=os.fsdecode(message.path),
        stdin=message.stdin,
        caller_fd=descriptors[0],
        pod_fd=descriptors[1] if len(descriptors) > 1 else -1,
        pod_errno=message.pod_errno,
    )


def _open(
    stack: contextlib.ExitStack,
    opener: OpenEngine,
    options: dict[str, str],
    ask: Callable[[], Answer | None],
    patience: float,
) -> NodeEngine | Answer:
    """The engine, or an agent's answer if one came up meanwhile. Raises Busy when it stays so."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return stack.enter_context(opener(options["node"], options["state-dir"], options["store"]))
        except Busy:
            answer = ask()
            if answer is not None:
                return answer
            if time.monotonic() > deadline:
                raise
        time.sleep(_PAUSE)


def _ask_again(message: wire.Message, descriptors: list[int]) -> Answer | None:
    """The answer of the agent that the configuration names, None when none listens or it serves others."""
    try:
        path, _ = shim.agent_of(shim.parse(message.stdin))
        if not path:
            return None
        reply = shim.ask(path, message, descriptors)
    except shim.NoAgent:
        return None
    except shim.Failure as error:
        raise CniError(error.code, str(error)) from None
    return Answer(reply.exit_code, reply.stdout)


def parse_options(arguments: list[str]) -> dict[str, str]:
    """{"node", "state-dir", "store"} from the command line. Raises InvalidInput.

    By hand: argparse would cost a tenth of a call."""
    options = {}
    for flag, value in zip(arguments[::2], arguments[1::2], strict=False):
        options[flag.removeprefix("--")] = value
    if len(arguments) % 2 or options.keys() != {"node", "state-dir", "store"}:
        raise InvalidInput(
            f"arguments {arguments}",
            fix="python -m podway.cni.inprocess --node NAME --state-dir DIR --store URL",
        )
    return options


def _opener(node: str, state_dir: str, store_url: str) -> AbstractContextManager[NodeEngine]:
    from podway.node.engine import open_engine  # after the cheap refusals: it imports the kernel rooms

    node, state_dir = home.of_caller(node, state_dir)
    return open_engine(node, state_dir, store_url)


def main(arguments: list[str]) -> int:
    """Answer on stdout; the exit code."""
    out = os.dup(1)
    os.dup2(2, 1)
    try:
        answer = carry_out(shim.read_stdin(), parse_options(arguments), _opener)
    except shim.Failure as error:
        answer = failure(CniError(error.code, str(error)))
    except PodwayError as error:
        answer = failure(error)
    with os.fdopen(out, "wb") as stdout:
        stdout.write(answer.stdout)
    return answer.exit_code


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

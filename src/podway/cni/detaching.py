"""Detaching a pod's interface for a person, not for a runtime: by the agent while one runs, else here."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator

from podway.cni import shim, wire
from podway.kernel import namespaces
from podway.model.errors import Unavailable

WAIT = 2.0  # seconds for an in-process call that holds the node's writer lock
Delete = Callable[[str, str], None]  # (container, interface); raises PodwayError


@contextlib.contextmanager
def detacher(node: str, state_dir: str, store: str, socket: str) -> Iterator[Delete]:
    """What detaches on this node: the agent at ``socket``, or an engine of its own where none listens."""
    if _listens(socket):
        yield lambda container, ifname: _delete(socket, container, ifname)
        return
    from podway.node.engine import open_engine

    with open_engine(node, state_dir, store, WAIT) as engine:
        yield engine.delete


def _listens(socket: str) -> bool:
    try:
        _ask(socket, "VERSION")
    except shim.NoAgent:
        return False
    except shim.Failure as error:
        raise Unavailable(str(error), socket, "is it an agent's socket?") from error
    return True


def _delete(socket: str, container: str, ifname: str) -> None:
    try:
        reply = _ask(socket, "DEL", CNI_CONTAINERID=container, CNI_IFNAME=ifname)
    except (shim.NoAgent, shim.Failure) as error:
        raise Unavailable(f"the agent did not detach it: {error}", socket) from error
    if reply.exit_code:
        document = json.loads(reply.stdout)
        raise Unavailable(
            f"the agent did not detach it: {document['msg']}", socket, document.get("details", "")
        )


def _ask(socket: str, command: str, **variables: str) -> wire.Reply:
    """As the executable asks. Raises NoAgent, Failure."""
    own = os.open(namespaces.OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        named = {"CNI_COMMAND": command, **variables}
        message = wire.Message(
            argv0=b"podway",
            env=tuple((name.encode(), os.fsencode(value)) for name, value in named.items()),
            path=b"",
            stdin=json.dumps({"cniVersion": "1.0.0", "name": "podway", "type": "podway-cni"}).encode(),
            descriptors=wire.CALLER,
        )
        return shim.ask(socket, message, [own])
    finally:
        os.close(own)

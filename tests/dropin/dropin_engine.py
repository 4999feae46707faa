"""Drop-in plugins and an engine in this process: in the emulated guest a start of Python takes seconds."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dropin_lab import CniFailed

from podway.cni import dropin
from podway.cni.protocol import Call
from podway.cni.steps import drive
from podway.kernel import namespaces
from podway.node.engine import NodeEngine, open_engine
from podway.store import open_store


class Here:
    """One node in this network namespace; ``call`` is ``dropin_lab.Lab.call``."""

    def __init__(self, engine: NodeEngine, directory: Path) -> None:
        self.engine, self.data = engine, directory / "networks"

    def call(
        self, command: str, conf: dict[str, Any], pod: str, ifname: str = "eth0", before: Any = None
    ) -> dict[str, Any]:
        """The result, {} for none. Raises CniFailed."""
        body = conf if before is None else {**conf, "prevResult": before}
        path = f"/run/netns/{pod}"
        env = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": pod,
            "CNI_NETNS": path,
            "CNI_IFNAME": ifname,
            "CNI_PATH": "/opt/cni/bin",
        }
        caller, inside = os.open(namespaces.OWN, os.O_RDONLY), os.open(path, os.O_RDONLY)
        try:
            call = Call(
                argv0=conf["type"],
                env=env,
                path=os.environ["PATH"],
                stdin=json.dumps(body).encode(),
                caller_fd=caller,
                pod_fd=inside,
            )
            answer = drive(dropin.steps(call), self.engine)
        finally:
            os.close(caller)
            os.close(inside)
        document: dict[str, Any] = json.loads(answer.stdout) if answer.stdout else {}
        if answer.exit_code:
            raise CniFailed(document)
        return document


@contextmanager
def here_is_a_node(directory: Path) -> Iterator[Here]:
    """A node whose engine is this process's, for the body."""
    url = f"sqlite:{directory}/store.db"
    open_store(url, create=True).close()
    with open_engine("a", str(directory / "state"), url) as engine:
        yield Here(engine, directory)

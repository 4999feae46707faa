"""Drop-in plugins and an engine in this process: in the emulated guest a start of Python takes seconds."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from dropin_lab import CniFailed

from podway.cni import dropin
from podway.cni.dropin.steps import drive
from podway.cni.protocol import Call
from podway.kernel import namespaces
from podway.node.engine import NodeEngine


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

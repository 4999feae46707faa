"""The reference's own client, cnitool, in a machine: calls as libcni makes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from bench.built import built
from networks import Runtime

_ASKED = '{"cniVersion": "1.0.0"}'
RELEASE = "1.3.0"
MODULE = f"github.com/containernetworking/cni/cnitool@v{RELEASE}"


class CniTool:
    """cnitool with the configurations and executables of a runtime."""

    def __init__(self, runtime: Runtime) -> None:
        self.machine = runtime.machine
        self._settings = [f"CNI_PATH={runtime.bin_dir}", f"NETCONFPATH={runtime.conf_dir}"]
        self._program = str(built(f"cnitool-{RELEASE}", MODULE, "cnitool") / "cnitool")

    def __call__(self, verb: str, network: str, namespace: str, **arguments: Any) -> str:
        """Standard output of a call on a named namespace. Raises AssertionError with what it said."""
        capabilities = [f"CAP_ARGS={json.dumps(arguments)}"] if arguments else []
        path = f"/run/netns/{namespace}"
        return self.machine.run(
            "env", *self._settings, *capabilities, self._program, verb, network, path, timeout=60
        )


def collect(runtime: Runtime, network: str, valid: Sequence[tuple[str, str]] = ()) -> None:
    """GC by every plugin of a network, as a runtime sends it that knows what is valid: cnitool doesn't.

    ``network``: the name of its file, which may have a number before it."""
    (file,) = (one for one in runtime.conf_dir.iterdir() if one.stem in (network, f"10-{network}"))
    document = json.loads(file.read_text())
    kept = [{"containerID": container, "ifname": ifname} for container, ifname in valid]
    for plugin in document["plugins"]:
        program = str(runtime.bin_dir / plugin["type"])
        if "1.1.0" not in runtime.machine.run("env", "CNI_COMMAND=VERSION", program, stdin=_ASKED):
            continue  # one of the reference plugins, which know no GC
        common = {"name": document["name"], "cniVersion": "1.1.0", "cni.dev/valid-attachments": kept}
        settings = ["CNI_COMMAND=GC", f"CNI_PATH={runtime.bin_dir}"]
        runtime.machine.run("env", *settings, program, stdin=json.dumps({**plugin, **common}))

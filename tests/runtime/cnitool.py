"""The reference's own client, cnitool, and one of its library, in a machine: calls as libcni makes them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.built import built, compiled
from networks import Runtime

RELEASE = "1.3.0"
MODULE = f"github.com/containernetworking/cni/cnitool@v{RELEASE}"
CLIENT = Path(__file__).with_name("libcni-client")


class CniTool:
    """cnitool with the configurations and executables of a runtime."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime, self.machine = runtime, runtime.machine
        self._program = str(built(f"cnitool-{RELEASE}", MODULE, "cnitool") / "cnitool")

    def __call__(self, verb: str, network: str, namespace: str, **arguments: Any) -> str:
        """Standard output of a call on a named namespace. Raises AssertionError with what it said."""
        capabilities = [f"CAP_ARGS={json.dumps(arguments)}"] if arguments else []
        settings = [*_settings(self.runtime), *capabilities]
        return self.machine.run(
            "env", *settings, self._program, verb, network, f"/run/netns/{namespace}", timeout=60
        )

    @staticmethod
    def container(namespace: str) -> str:
        """What cnitool calls the container of a named namespace."""
        return f"cnitool-{hashlib.sha512(f'/run/netns/{namespace}'.encode()).hexdigest()[:20]}"


def _settings(runtime: Runtime) -> list[str]:
    return [f"CNI_PATH={runtime.bin_dir}", f"NETCONFPATH={runtime.conf_dir}"]


def collect(runtime: Runtime, network: str, valid: Sequence[tuple[str, str]] = ()) -> None:
    """libcni's GC of a network for a runtime that knows which (container, ifname) are valid."""
    attachments = [f"{container}/{ifname}" for container, ifname in valid]
    runtime.machine.run("env", *_settings(runtime), str(compiled(CLIENT)), "gc", network, *attachments)


def status(runtime: Runtime, network: str) -> None:
    """libcni's STATUS of a network. Raises AssertionError with code and message."""
    runtime.machine.run("env", *_settings(runtime), str(compiled(CLIENT)), "status", network)

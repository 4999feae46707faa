"""Runs a chain of CNI plugins as libcni does: environment, prevResult, capabilities → runtimeConfig.

Both sides are run by this same code, so what it costs is in both figures.
"""

from __future__ import annotations

import json
import os
from typing import Any, NamedTuple


class Attachment(NamedTuple):
    """What a runtime knows of one interface of one pod."""

    container: str
    namespace: str
    capabilities: dict[str, Any] = {}
    ifname: str = "eth0"


class Chain:
    """A conflist and the directory of its executables."""

    def __init__(self, conflist: dict[str, Any], directory: str) -> None:
        self.conflist = conflist
        self.directory = directory

    def add(self, attachment: Attachment) -> dict[str, Any]:
        """ADD by every plugin in order; the last result."""
        result: dict[str, Any] | None = None
        for plugin in self.conflist["plugins"]:
            result = json.loads(self._call("ADD", plugin, attachment, result))
        assert result is not None
        return result

    def check(self, attachment: Attachment, result: dict[str, Any]) -> None:
        """CHECK by every plugin in order."""
        for plugin in self.conflist["plugins"]:
            self._call("CHECK", plugin, attachment, result)

    def delete(self, attachment: Attachment, result: dict[str, Any] | None) -> None:
        """DEL by every plugin in reverse."""
        for plugin in reversed(self.conflist["plugins"]):
            self._call("DEL", plugin, attachment, result)

    def _call(
        self, verb: str, plugin: dict[str, Any], attachment: Attachment, result: dict[str, Any] | None
    ) -> bytes:
        configuration = {**plugin, "name": self.conflist["name"], "cniVersion": self.conflist["cniVersion"]}
        wanted = configuration.pop("capabilities", {})
        runtime = {key: value for key, value in attachment.capabilities.items() if wanted.get(key)}
        if runtime:
            configuration["runtimeConfig"] = runtime
        if result is not None:
            configuration["prevResult"] = result
        environment = {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": attachment.container,
            "CNI_NETNS": attachment.namespace,
            "CNI_IFNAME": attachment.ifname,
            "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=bench;K8S_POD_NAME=pod",
            "CNI_PATH": self.directory,
            "PATH": os.environ["PATH"],
        }
        return execute(f"{self.directory}/{plugin['type']}", environment, json.dumps(configuration).encode())


def execute(program: str, environment: dict[str, str], stdin: bytes) -> bytes:
    """Standard output of a program. Raises RuntimeError with it unless the exit status is 0."""
    read_in, write_in = os.pipe()
    read_out, write_out = os.pipe()
    actions = [(os.POSIX_SPAWN_DUP2, read_in, 0), (os.POSIX_SPAWN_DUP2, write_out, 1)]
    process = os.posix_spawn(program, [program], environment, file_actions=actions)
    os.close(read_in)
    os.close(write_out)
    os.write(write_in, stdin)  # far below a pipe's 64 KiB
    os.close(write_in)
    parts = []
    while part := os.read(read_out, 65536):
        parts.append(part)
    os.close(read_out)
    _, status = os.waitpid(process, 0)
    out = b"".join(parts)
    if status != 0:
        raise RuntimeError(f"{program} {environment['CNI_COMMAND']}: {out.decode(errors='replace')}")
    return out

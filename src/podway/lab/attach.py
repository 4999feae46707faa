"""Attaching pods as a container runtime does: by executing the installed CNI plugin on the node."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from podway.cni.install import conflist_name
from podway.lab.place import NAMESPACES, Place
from podway.lab.topology import Topology
from podway.model.errors import Unavailable

AT_ONCE = 16
INTERFACE = "eth0"
TIMEOUT = 60.0


class Runtime:
    """What containerd is to a node, for all nodes of a lab."""

    def __init__(self, place: Place, topology: Topology) -> None:
        self._place = place
        self._topology = topology

    def attach_all(self, pods: Sequence[tuple[str, str]], progress: Callable[[int], None]) -> None:
        """ADD for every (node, pod), many at once. Raises Unavailable with the plugin's own words."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for done, _ in enumerate(pool.map(lambda one: self.call("ADD", *one), pods), 1):
                progress(done)

    def status(self, node: str, network: str) -> None:
        """STATUS. Raises Unavailable when the node could not serve an ADD."""
        self._execute("STATUS", node, "", network)

    def call(self, command: str, node: str, pod: str) -> None:
        """ADD or DEL of a pod."""
        self._execute(command, node, pod, self._topology.network_of(pod))

    def _execute(self, command: str, node: str, pod: str, network: str) -> None:
        environment = {
            "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
            "CNI_COMMAND": command,
            "CNI_PATH": str(self._place.plugins),
        }
        if pod:
            environment |= {
                "CNI_CONTAINERID": pod,
                "CNI_NETNS": str(NAMESPACES / pod),
                "CNI_IFNAME": INTERFACE,
                "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE=lab;K8S_POD_NAME={pod}",
            }
        configuration = self._configuration(node, network)
        executable = self._place.plugins / configuration["type"]
        done = subprocess.run(
            [*self._place.enter(node), str(executable)],
            env=environment,
            input=json.dumps(configuration).encode(),
            capture_output=True,
            timeout=TIMEOUT,
        )
        if done.returncode != 0:
            raise Unavailable(_words(done.stdout, done.stderr), f"CNI {command} {pod or node}")

    def _configuration(self, node: str, network: str) -> dict[str, Any]:
        """The one plugin of the installed list, with the list's name and version as libcni merges them."""
        path = self._place.node(node) / "net.d" / conflist_name(network)
        whole = json.loads(path.read_bytes())
        version = "1.1.0" if "1.1.0" in whole.get("cniVersions", ()) else whole["cniVersion"]
        merged: dict[str, Any] = whole["plugins"][0] | {"name": whole["name"], "cniVersion": version}
        merged.pop("capabilities", None)
        return merged


def _words(stdout: bytes, stderr: bytes) -> str:
    try:
        answer = json.loads(stdout)
        return " ".join(filter(None, (str(answer["msg"]), str(answer.get("details", "")))))
    except (ValueError, KeyError, TypeError):
        return (stderr or stdout).decode(errors="replace").strip() or "it said nothing"

"""Pods of a containerd as the tests ask for them, and who reaches whom with which address."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import reach
from containerd import Containerd, wait_for
from cri import Cri, Port

SERVER = ["/bin/httpd", "-f", "-h", "/www"]
_names = (f"pod{number}" for number in itertools.count())


class Pods:
    """A containerd with a network, and what the tests ask of both."""

    def __init__(self, daemon: Containerd) -> None:
        self.daemon = daemon
        self.machine = daemon.machine
        self.cri = Cri(daemon)

    def start(
        self, *ports: Port, annotations: Mapping[str, str] | None = None, servers: tuple[str, ...] = ()
    ) -> tuple[str, str]:
        """(pod, container) of a new pod that serves on port 80."""
        pod = self.cri.run_pod(next(_names), ports, annotations=annotations, servers=servers)
        server = self.cri.run_container(pod, "server", SERVER)
        wait_for(
            "the pod's server", lambda: reach.heard(lambda: self.from_container(server, "127.0.0.1")), 30
        )
        return pod, server

    def from_container(self, container: str, host: str, port: int = 80) -> str:
        """The address that the server at ``host`` saw when ``container`` asked it."""
        return reach.seen(self.cri.execute(container, "/bin/wget", "-qO-", reach.url(host, port)))

    def from_machine(self, host: str, port: int = 80) -> str:
        """The same, asked from the machine's own namespace."""
        return reach.from_machine(self.machine, host, port)

    def from_outside(self, host: str, port: int = 80) -> str:
        """The same, asked from the host beyond the uplink."""
        return reach.from_outside(self.machine, host, port)

    def end(self, pod: str) -> None:
        """Stop (twice, as a kubelet may), remove, and see that nothing is left of it."""
        addresses, namespaces = self.cri.addresses(pod), self.pod_namespaces()
        for _ in range(2):
            self.cri.stop_pod(pod)
        self.cri.remove_pod(pod)
        assert pod not in self.cri.pods()
        wait_for(f"the end of {', '.join(addresses)} in the kernel", lambda: self._gone(addresses))
        assert len(self.pod_namespaces()) == len(namespaces) - 1

    def _gone(self, addresses: list[str]) -> bool:
        """Links go off the answer's path, and their guards with them."""
        state = self.kernel_state()
        return not any(f'"{address}"' in state for address in addresses)

    def kernel_state(self) -> str:
        """Links, addresses, routes, neighbours and nftables of the machine's namespace, as JSON text."""
        parts = [self.machine.run("ip", "-j", *what) for what in (["addr"], ["route"], ["-6", "route"])]
        return "".join([*parts, self.machine.run("nft", "-j", "list", "ruleset")])

    def pod_namespaces(self) -> list[str]:
        """Named namespaces of pods that still stand."""
        return [name for name in self.machine.run("ls", "/run/netns").split() if name != "outside"]

"""Proves that a real containerd runs pods over Podway, through restarts of both, and leaves nothing.

Debian's reference bridge runs first in the same fixture: what fails there is the fixture's fault.
"""

from __future__ import annotations

import ipaddress
import itertools
import json
import signal
from collections.abc import Iterator

import grpc  # type: ignore[import-untyped]
import pytest
from containerd import Containerd, runtime, wait_for
from cri import Cri, Port
from networks import Podway, install_reference

pytestmark = [pytest.mark.kernel, pytest.mark.runtime]

SERVER = ["/bin/httpd", "-f", "-h", "/www"]
IDLE = ["/bin/sleep", "3600"]
OUTSIDE = "198.51.100.1"
NODE = "198.51.100.2"
_names = (f"pod{number}" for number in itertools.count())


class Pods:
    """A containerd with a network, and what the tests ask of both."""

    def __init__(self, daemon: Containerd) -> None:
        self.daemon = daemon
        self.machine = daemon.machine
        self.cri = Cri(daemon)

    def start(self, *ports: Port) -> tuple[str, str]:
        """(pod, container) of a new pod that serves on port 80."""
        pod = self.cri.run_pod(next(_names), ports)
        server = self.cri.run_container(pod, "server", SERVER)
        wait_for("the pod's server", lambda: self._serves(server), 10)
        return pod, server

    def _serves(self, container: str) -> bool:
        try:
            return bool(self.from_container(container, "127.0.0.1"))
        except AssertionError:
            return False

    def from_container(self, container: str, host: str, port: int = 80) -> str:
        """The address that the server at ``host`` saw when ``container`` asked it."""
        return _seen(self.cri.execute(container, "/bin/wget", "-qO-", _url(host, port)))

    def from_machine(self, host: str, port: int = 80) -> str:
        """The same, asked from the machine's own namespace."""
        return _seen(self.machine.run("timeout", "5", "busybox", "wget", "-qO-", _url(host, port)))

    def from_outside(self, host: str, port: int = 80) -> str:
        """The same, asked from the host beyond the uplink."""
        enter = ("ip", "netns", "exec", "outside")
        return _seen(self.machine.run(*enter, "timeout", "5", "busybox", "wget", "-qO-", _url(host, port)))

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


def _url(host: str, port: int) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/cgi-bin/seen"


def _seen(text: str) -> str:
    """busybox prints "[::ffff:10.0.0.1]" for an IPv4 client of its IPv6 socket."""
    found = ipaddress.ip_address(text.strip().strip("[]"))
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped or found)


@pytest.fixture(scope="module")
def node() -> Iterator[tuple[Pods, Podway]]:
    """containerd over Podway, its agent running."""
    with runtime() as daemon:
        podway = Podway(daemon)
        podway.install()
        yield Pods(daemon), podway
        podway.stop()


@pytest.fixture
def pods(node: tuple[Pods, Podway]) -> Iterator[Pods]:
    """The node's pods; none may be there before or after a test."""
    found, podway = node
    podway.ensure_running()
    yield found
    for pod in found.cri.pods():
        found.end(pod)


def test_the_fixture_runs_pods_over_the_reference_bridge() -> None:
    with runtime() as daemon:
        install_reference(daemon)
        pods = Pods(daemon)
        pod, _ = pods.start((8080, 80, "tcp"))
        other, client = pods.start()
        v4, v6 = pods.cri.addresses(pod)
        assert pods.from_container(client, v4) == pods.cri.addresses(other)[0]
        assert pods.from_container(client, v6) == pods.cri.addresses(other)[1]
        assert pods.from_outside(NODE, 8080) == OUTSIDE
        for one in (pod, other):
            pods.cri.stop_pod(one)
            pods.cri.remove_pod(one)
        assert pods.pod_namespaces() == []


def test_two_containers_of_a_pod_share_one_stack(pods: Pods) -> None:
    pod, server = pods.start()
    second = pods.cri.run_container(pod, "second", IDLE)
    assert pods.from_container(second, "127.0.0.1") == "127.0.0.1"
    seen = [pods.cri.execute(one, "/bin/ip", "addr", "show", "eth0") for one in (server, second)]
    assert seen[0] == seen[1]
    assert all(f"{address}/" in seen[0] for address in pods.cri.addresses(pod))


def test_both_families_reach_host_and_pods_with_their_own_address(pods: Pods) -> None:
    one, server = pods.start()
    two, client = pods.start()
    for theirs, ours in zip(pods.cri.addresses(one), pods.cri.addresses(two), strict=True):
        assert pods.from_container(client, theirs) == ours
        assert pods.from_container(server, ours) == theirs
        assert ipaddress.ip_address(pods.from_machine(theirs)).version == ipaddress.ip_address(ours).version


def test_what_leaves_the_cluster_is_masqueraded(pods: Pods) -> None:
    _, client = pods.start()
    page = pods.daemon.directory / "www" / "cgi-bin" / "seen"
    page.parent.mkdir(parents=True)
    page.write_text('#!/bin/sh\nprintf "Content-Type: text/plain\\r\\n\\r\\n%s\\n" "$REMOTE_ADDR"\n')
    page.chmod(0o755)
    outside = ("ip", "netns", "exec", "outside", "busybox", "httpd", "-h", str(page.parent.parent))
    pods.machine.run(*outside, "-p", "80")
    assert pods.from_container(client, OUTSIDE) == NODE


def test_a_published_port_is_reached_from_everywhere(pods: Pods) -> None:
    pod, server = pods.start((8080, 80, "tcp"))
    _, neighbour = pods.start()
    assert pods.from_outside(NODE, 8080) == OUTSIDE
    pods.from_machine(NODE, 8080)
    pods.from_machine("127.0.0.1", 8080)
    pods.from_container(neighbour, NODE, 8080)
    pods.from_container(server, NODE, 8080)
    pods.end(pod)
    with pytest.raises(AssertionError):
        pods.from_outside(NODE, 8080)


def test_a_port_that_is_taken_fails_the_sandbox_and_leaves_nothing(pods: Pods) -> None:
    pods.start((8081, 80, "tcp"))
    links, namespaces = _links(pods), pods.pod_namespaces()
    with pytest.raises(grpc.RpcError, match="8081"):
        pods.start((8081, 80, "tcp"))
    wait_for("the failed pod's links to go", lambda: _links(pods) == links)
    assert pods.pod_namespaces() == namespaces


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_pods_outlive_a_restart_of_containerd(pods: Pods, number: int) -> None:
    pod, _ = pods.start((8082, 80, "tcp"))
    pods.daemon.stop(number)
    assert pods.from_outside(NODE, 8082) == OUTSIDE
    pods.daemon.start()
    pods.daemon.wait_network()
    _, client = pods.start()
    pods.from_container(client, pods.cri.addresses(pod)[0])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_pods_outlive_a_restart_of_the_agent(pods: Pods, node: tuple[Pods, Podway], number: int) -> None:
    pod, _ = pods.start((8083, 80, "tcp"))
    node[1].stop(number)
    assert pods.from_outside(NODE, 8083) == OUTSIDE
    node[1].start()
    other, client = pods.start()
    assert set(pods.cri.addresses(other)).isdisjoint(pods.cri.addresses(pod))
    assert pods.from_container(client, pods.cri.addresses(pod)[0]) == pods.cri.addresses(other)[0]


def test_pods_come_and_go_while_the_agent_is_down(pods: Pods, node: tuple[Pods, Podway]) -> None:
    before, _ = pods.start()
    node[1].stop(signal.SIGKILL)
    pods.end(before)
    during, _ = pods.start((8084, 80, "tcp"))
    pods.from_outside(NODE, 8084)
    node[1].start()
    _, client = pods.start()
    pods.from_container(client, pods.cri.addresses(during)[0])


def _links(pods: Pods) -> list[str]:
    return [entry["ifname"] for entry in json.loads(pods.machine.run("ip", "-j", "link"))]

"""Proves that a real containerd runs pods over Podway, through restarts of both, and leaves nothing.

Debian's reference bridge runs first in the same fixture: what fails there is the fixture's fault.
"""

from __future__ import annotations

import ipaddress
import json
import signal
from collections.abc import Iterator

import grpc  # type: ignore[import-untyped]
import images
import pytest
from containerd import runtime, wait_for
from networks import Podway, install_reference
from pods import Pods
from reach import NODE, OUTSIDE

pytestmark = [pytest.mark.kernel, pytest.mark.runtime]

IDLE = ["/bin/sleep", "3600"]


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
    page.write_text(images.SEEN)
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

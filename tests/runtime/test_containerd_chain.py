"""Proves that containerd's pods get all that a distribution's chain of plugins gives: by CRI and by ctr.

Every test runs over the reference plugins too (``make soak``): what fails there is the test's fault.
"""

from __future__ import annotations

import contextlib
import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc  # type: ignore[import-untyped]
import images
import pytest
import reach
from cnitool import collect
from containerd import runtime, wait_for
from networks import NETWORKS, PARAMETERS, Podway, Reference
from pods import Pods
from reach import NODE, OUTSIDE
from stock import rows, stock

pytestmark = [pytest.mark.kernel, pytest.mark.runtime]

Node = tuple[Pods, Reference | Podway]
MANY = 50


@pytest.fixture(scope="module", params=PARAMETERS)
def node(request: pytest.FixtureRequest) -> Iterator[Node]:
    """containerd over a network."""
    with runtime() as daemon:
        network = NETWORKS[request.param](daemon)
        network.install()
        for directory, target in ((daemon.conf_dir, "/etc/cni/net.d"), (daemon.bin_dir, "/opt/cni/bin")):
            daemon.machine.cover(directory, target)  # where ctr looks
        yield Pods(daemon), network
        network.stop()


@pytest.fixture
def pods(node: Node) -> Iterator[Pods]:
    """No pod before or after a test, and what stands after is what stood after a first pod."""
    found, network = node
    network.ensure_running()
    end(found, found.cri.run_pod("first", ((30000, 80, "tcp"), (30000, 53, "udp"))))
    if network.database is not None:
        wait_for("the first pod's end", lambda: rows(network.database) == 0)
    before = settled(found, network)
    yield found
    with ThreadPoolExecutor(MANY) as crowd:
        list(crowd.map(lambda pod: end(found, pod), found.cri.pods()))
    with contextlib.suppress(AssertionError):
        wait_for("everything of the pods to go", lambda: gone(found, network, before), 30)
    assert gone(found, network, before), sorted(settled(found, network) ^ before)


def end(pods: Pods, pod: str) -> None:
    """Stop twice, as a kubelet may, and remove."""
    for _ in range(2):
        pods.cri.stop_pod(pod)
    pods.cri.remove_pod(pod)


def gone(pods: Pods, network: Reference | Podway, before: set[str]) -> bool:
    """Whether all is as before; the reference leaves masquerade rules at a DEL with an empty CNI_NETNS."""
    differs = settled(pods, network) ^ before
    return all(isinstance(network, Reference) and one.startswith("nft") for one in differs)


def settled(pods: Pods, network: Reference | Podway) -> set[str]:
    """What stands in the machine, and what is in the node's database."""
    kept = rows(network.database) if network.database else 0
    return stock(pods.machine) | {f"{kept} rows of pods"}


def test_a_published_port_in_tcp_and_udp(pods: Pods) -> None:
    pod, server = pods.start((8080, 80, "tcp"), (53, 53, "udp"))
    pods.cri.run_container(pod, "names", ["/bin/names"])
    _, neighbour = pods.start()
    for _ in range(2):
        assert pods.from_outside(NODE, 8080) == OUTSIDE
        assert reach.name_from_outside(pods.machine, NODE) == OUTSIDE
        pods.from_machine(NODE, 8080)
        for client in (neighbour, server):
            pods.from_container(client, NODE, 8080)
            reach.asked(pods.cri.execute(client, "/bin/nslookup", "-type=a", "me.test", NODE))


def test_a_pod_reaches_itself_by_its_own_address(pods: Pods) -> None:
    pod, server = pods.start((8080, 80, "tcp"))
    for address in pods.cri.addresses(pod):
        assert pods.from_container(server, address) == address
    pods.from_container(server, NODE, 8080)  # out to the node's address and back in at the same port


def test_names_are_asked_of_the_servers_that_a_pod_was_given(pods: Pods) -> None:
    names, _ = pods.start()
    pods.cri.run_container(names, "names", ["/bin/names"])
    server = pods.cri.addresses(names)[0]
    client, container = pods.start(servers=(server,))
    assert f"nameserver {server}" in pods.cri.execute(container, "/bin/cat", "/etc/resolv.conf")
    answer = pods.cri.execute(container, "/bin/nslookup", "-type=a", "me.test")
    assert reach.asked(answer) == pods.cri.addresses(client)[0]


def test_rates_by_annotation(pods: Pods) -> None:
    rates = {"kubernetes.io/ingress-bandwidth": "10M", "kubernetes.io/egress-bandwidth": "20M"}
    _, slow = pods.start(annotations=rates)
    shaped = pods.machine.run("tc", "qdisc", "show") + pods.machine.run("tc", "filter", "show", check=False)
    assert re.search(r"rate 10Mbit", shaped), shaped
    assert re.search(r"rate 20Mbit", shaped), shaped
    other, _ = pods.start()
    pods.from_container(slow, pods.cri.addresses(other)[0])


def test_pods_of_the_hosts_network_beside(pods: Pods) -> None:
    host = pods.cri.run_pod("host", host_network=True)
    client = pods.cri.run_container(host, "client", ["/bin/sleep", "3600"])
    pod, _ = pods.start((8080, 80, "tcp"))
    assert "up0" in pods.cri.execute(client, "/bin/ip", "link")
    pods.from_container(client, pods.cri.addresses(pod)[0])
    pods.from_container(client, NODE, 8080)


def test_many_pods_at_once(pods: Pods, node: Node) -> None:
    many = 10 if isinstance(node[1], Reference) else MANY  # they take turns at iptables

    def one(number: int) -> str:
        return pods.cri.run_pod(f"many{number}", ((20000 + number, 80, "tcp"), (20000 + number, 53, "udp")))

    with ThreadPoolExecutor(MANY) as crowd:
        made = list(crowd.map(one, range(many)))
    addresses = [address for pod in made for address in pods.cri.addresses(pod)]
    assert len(set(addresses)) == 2 * many
    server = pods.cri.run_container(made[-1], "server", ["/bin/httpd", "-f", "-h", "/www"])
    wait_for("the server", lambda: reach.heard(lambda: pods.from_container(server, "127.0.0.1")))
    assert pods.from_outside(NODE, 20000 + many - 1) == OUTSIDE


def test_a_pod_outlives_restarts_between_its_steps(pods: Pods, node: Node) -> None:
    pod, server = pods.start((8080, 80, "tcp"))
    node[1].stop(signal.SIGKILL)
    pods.daemon.stop(signal.SIGKILL)
    assert pods.from_outside(NODE, 8080) == OUTSIDE
    node[1].start()
    pods.daemon.start()
    pods.daemon.wait_network()
    assert pods.from_container(server, pods.cri.addresses(pod)[0])
    node[1].stop()
    end(pods, pod)
    with pytest.raises(AssertionError):
        pods.from_outside(NODE, 8080)
    node[1].start()


def test_the_runtime_is_killed_while_pods_are_added(pods: Pods, node: Node) -> None:
    if isinstance(node[1], Reference):
        pytest.skip("the reference plugins have no GC, so what a killed runtime forgot stays")
    before = pods.machine.run("ip", "-br", "link")

    def one(number: int) -> None:
        with pytest.raises(grpc.RpcError):
            pods.cri.run_pod(f"cut{number}", ((21000 + number, 80, "tcp"),))

    with ThreadPoolExecutor(8) as crowd:
        calls = [crowd.submit(one, number) for number in range(8)]
        wait_for("a pod's link", lambda: pods.machine.run("ip", "-br", "link") != before)
        pods.daemon.stop(signal.SIGKILL)
        for call in calls:
            call.cancel()
    pods.daemon.start()
    pods.daemon.wait_network()
    for pod in pods.cri.pods():
        end(pods, pod)
    wait_for(
        "the calls' end", lambda: not pods.machine.run("pgrep", "-f", str(pods.daemon.bin_dir), check=False)
    )
    collect(pods.daemon, node[1].name)
    for name in pods.pod_namespaces():  # containerd's own, which it forgot
        pods.machine.run("ip", "netns", "delete", name)


def test_ctr_run(pods: Pods) -> None:
    pod, _ = pods.start()
    machine, daemon = pods.machine, pods.daemon
    address = pods.cri.addresses(pod)[0]
    ctr = ("ctr", "-a", str(daemon.directory / "cd.sock"), "-n", "k8s.io", "run", "--rm", "--cni")
    place = ("--cgroup", f"/{machine.cgroup}/ctr", "--snapshotter", daemon.snapshotter)
    root = ("--runc-root", str(daemon.directory / "runc"))
    command = ("/bin/wget", "-qO-", reach.url(address))
    seen = reach.seen(machine.run(*ctr, *place, *root, images.BUSYBOX, "by-ctr", *command))
    assert seen != address
    assert seen.rpartition(".")[0].startswith(address.split(".")[0])

"""Proves that podman's containers run over Podway: networks made by podman, or one of Podway's own.

Rootless podman is no caller of ours: it runs CNI plugins in a user namespace of its own, in which no root
agent may set up a network, and only root may attach pods. It has slirp4netns or pasta.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import images
import pytest
import reach
from cnitool import collect
from containerd import wait_for
from machine import machine
from networks import NETWORKS, PARAMETERS, Podway, Reference
from podman import Podman
from reach import NODE, OUTSIDE
from stock import rows, stock

pytestmark = [pytest.mark.kernel, pytest.mark.runtime]

MANY = 12
Node = tuple[Podman, Reference | Podway]


@pytest.fixture(scope="module", params=PARAMETERS)
def node(request: pytest.FixtureRequest) -> Iterator[Node]:
    """podman and two networks: "one" and "two", made by podman but for Podway's own."""
    with machine() as made:
        made.uplink()
        podman = Podman(made)
        podman.import_images()
        network = NETWORKS[request.param](podman)
        network.install()
        if type(network) is Podway:
            network.install_network("two")
        yield podman, network
        network.stop()


@pytest.fixture
def podman(node: Node) -> Iterator[Podman]:
    """No container before or after a test, and what stands after is what stood after a first one."""
    found, network = node
    network.ensure_running()
    for name in networks(node):
        if name not in found("network", "ls", "--format", "{{.Name}}").split():
            found("network", "create", name)
    for name in networks(node):
        found.run("first", "--network", name, "-p", "30000:80")
        found("rm", "-f", "-t", "0", "first")
    before = settled(node)
    yield found
    found("pod", "rm", "-f", "-a", "-t", "0")
    found("rm", "-f", "-a", "-t", "0")
    with contextlib.suppress(AssertionError):
        wait_for("everything of the containers to go", lambda: settled(node) == before, 30)
    assert settled(node) == before, sorted(settled(node) ^ before)


def networks(node: Node) -> list[str]:
    """Podway's own networks have a conflist each already; the others are podman's to make."""
    return ["pods", "two"] if type(node[1]) is Podway else ["one", "two"]


def settled(node: Node) -> set[str]:
    """What stands in the machine; no attachment is in the node's database."""
    podman, network = node
    if network.database is not None:
        wait_for("the attachments' end", lambda: rows(network.database) == 0)
    return stock(podman.machine)


def _serves(podman: Podman, name: str) -> None:
    own = reach.url("127.0.0.1")
    wait_for("the server", lambda: reach.heard(lambda: podman.execute(name, "wget", "-qO-", own)))


def test_published_ports(podman: Podman, node: Node) -> None:
    network = networks(node)[0]
    podman.run("web", "--network", network, "-p", "8080:80", "-p", "53:53/udp")
    podman("exec", "-d", "web", "names")
    podman.run("client", "--network", network)
    _serves(podman, "web")
    assert reach.from_outside(podman.machine, NODE, 8080) == OUTSIDE
    assert reach.name_from_outside(podman.machine, NODE) == OUTSIDE
    reach.from_machine(podman.machine, NODE, 8080)
    podman.execute("client", "wget", "-qO-", reach.url(podman.addresses("web")[network]))
    for name in ("web", "client"):
        podman.execute(name, "wget", "-qO-", reach.url(NODE, 8080))


def test_a_fixed_address_and_mac(podman: Podman, node: Node) -> None:
    network = networks(node)[0]
    podman.run("first", "--network", network)
    address = podman.addresses("first")[network].rpartition(".")[0] + ".77"
    podman.run("fixed", "--network", network, "--ip", address, "--mac-address", "02:11:22:33:44:55")
    assert podman.addresses("fixed")[network] == address
    assert "02:11:22:33:44:55" in podman.execute("fixed", "ip", "link", "show", "eth0")


def test_two_networks_on_one_container(podman: Podman, node: Node) -> None:
    podman.run("both", "--network", ",".join(networks(node)), "-p", "8080:80")
    for network in networks(node):
        podman.run(f"of-{network}", "--network", network)
        address = podman.addresses("both")[network]
        _serves(podman, f"of-{network}")
        podman.execute(f"of-{network}", "wget", "-qO-", reach.url(address))
    _serves(podman, "both")
    assert reach.from_outside(podman.machine, NODE, 8080) == OUTSIDE


def test_connect_and_disconnect(podman: Podman, node: Node) -> None:
    one, two = networks(node)
    podman.run("web", "--network", one, "-p", "8080:80")
    podman.run("client", "--network", two)
    podman("network", "connect", two, "web")
    _serves(podman, "web")
    podman.execute("client", "wget", "-qO-", reach.url(podman.addresses("web")[two]))
    for first, other in ((one, two), (two, one)):  # a default route and the port stay with what is left
        podman("network", "disconnect", first, "web")
        assert list(podman.addresses("web")) == [other]
        assert reach.from_outside(podman.machine, NODE, 8080) == OUTSIDE
        podman("network", "connect", first, "web")
        assert reach.from_outside(podman.machine, NODE, 8080) == OUTSIDE
    podman.execute("client", "wget", "-qO-", reach.url(podman.addresses("web")[two]))


def test_restart_policy(podman: Podman, node: Node) -> None:
    network = networks(node)[0]
    podman.run("web", "--network", network, "-p", "8080:80", "--restart", "always")
    _serves(podman, "web")
    first = json.loads(podman("inspect", "web"))[0]["State"]["Pid"]
    podman.machine.run("kill", "-9", podman("inspect", "-f", "{{.State.Pid}}", "web").strip())
    wait_for(
        "the container's return",
        lambda: json.loads(podman("inspect", "web"))[0]["State"]["Pid"] not in (0, first),
    )
    _serves(podman, "web")
    assert reach.from_outside(podman.machine, NODE, 8080) == OUTSIDE
    podman("restart", "-t", "0", "web")
    _serves(podman, "web")
    assert reach.from_outside(podman.machine, NODE, 8080) == OUTSIDE


def test_pods(podman: Podman, node: Node) -> None:
    network = networks(node)[0]
    where = ("--cgroup-parent", f"/{podman.machine.cgroup}")
    podman("pod", "create", "--name", "p", "-p", "8080:80", "--network", network, *where)
    podman.run("web", "--pod", "p")
    podman.run("beside", "--pod", "p", command=("sleep", "3600"))
    _serves(podman, "beside")
    assert reach.from_outside(podman.machine, NODE, 8080) == OUTSIDE
    podman("pod", "stop", "-t", "0", "p")
    podman("pod", "start", "p")
    _serves(podman, "beside")
    assert reach.from_outside(podman.machine, NODE, 8080) == OUTSIDE


def test_containers_outlive_the_agent(podman: Podman, node: Node) -> None:
    network = networks(node)[0]
    podman.run("web", "--network", network, "-p", "8080:80")
    _serves(podman, "web")
    node[1].stop(signal.SIGKILL)
    assert reach.from_outside(podman.machine, NODE, 8080) == OUTSIDE
    podman.run("during", "--network", network)
    podman("rm", "-f", "-t", "0", "during")
    node[1].start()
    assert reach.from_outside(podman.machine, NODE, 8080) == OUTSIDE


def test_many_containers_at_once(podman: Podman, node: Node) -> None:
    """Each has its address and port; podman itself lets one after the other through."""
    network = networks(node)[0]

    def one(number: int) -> str:
        podman.run(f"many{number}", "--network", network, "-p", f"{20000 + number}:80")
        return podman.addresses(f"many{number}")[network]

    with ThreadPoolExecutor(MANY) as crowd:
        addresses = list(crowd.map(one, range(MANY)))
    assert len(set(addresses)) == MANY
    for number in (0, MANY - 1):
        _serves(podman, f"many{number}")
        assert reach.from_outside(podman.machine, NODE, 20000 + number) == OUTSIDE
    with ThreadPoolExecutor(MANY) as crowd:
        list(crowd.map(lambda number: podman("rm", "-f", "-t", "0", f"many{number}"), range(MANY)))


def _cut_off(podman: Podman, node: Node, numbers: range) -> list[subprocess.Popen[bytes]]:
    """Containers that are being started."""
    machine, network = podman.machine, networks(node)[0]
    where = ("--cgroup-parent", f"/{machine.cgroup}", "--network", network, "--entrypoint", "")
    return [
        machine.spawn(
            "podman", "run", "-d", "--name", f"cut{number}", "-p", f"{21000 + number}:80", *where,
            images.BUSYBOX, "sleep", "3600", log="cut.log",
        )
        for number in numbers
    ]  # fmt: skip


def _killed(podman: Podman, calls: list[subprocess.Popen[bytes]]) -> None:
    for call in calls:
        podman.machine.signal(call, signal.SIGKILL)
    for call in calls:
        call.wait(60)


def _plugins(podman: Podman) -> list[str]:
    """Executables of the networks' that run."""
    return podman.machine.run("pgrep", "-f", str(podman.bin_dir), check=False).split()


def _in_add(podman: Podman) -> bool:
    """Whether one of them is called to ADD."""
    environments = (
        podman.machine.run("cat", f"/proc/{pid}/environ", check=False) for pid in _plugins(podman)
    )
    return any("CNI_COMMAND=ADD\0" in one for one in environments)


def _cleared(podman: Podman, node: Node) -> None:
    """What podman forgot when it was killed, as an administrator clears it away, and GC by the networks."""
    machine = podman.machine
    wait_for("the plugins' end", lambda: not _plugins(podman))
    for mount in {line.split()[4] for line in machine.run("cat", "/proc/self/mountinfo").splitlines()}:
        if mount.endswith("/userdata/shm"):
            machine.run("umount", "-l", mount)
    podman("rm", "-f", "-a", "-t", "0")
    collect(podman, node[1].name if type(node[1]) is Podway else networks(node)[0])
    for name in machine.run("ip", "netns", "list").split():
        if name.startswith("netns-"):
            machine.run("ip", "netns", "delete", name)


def test_podman_is_killed_in_the_middle_of_an_add(podman: Podman, node: Node) -> None:
    """While the agent has the call and doesn't answer: what is attached then, for nobody, goes by GC."""
    if not isinstance(node[1], Podway):
        pytest.skip("the reference plugins have no agent to hold a call up, and no GC")
    node[1].send(signal.SIGSTOP)
    try:
        (call,) = _cut_off(podman, node, range(1))
        wait_for("the plugin's ADD", lambda: _in_add(podman))
        _killed(podman, [call])
    finally:
        node[1].send(signal.SIGCONT)
    wait_for("the plugin's end", lambda: not _plugins(podman))
    assert node[1].database is not None and rows(node[1].database)
    _cleared(podman, node)


@pytest.mark.soak  # what podman forgets isn't always the same
def test_podman_is_killed_while_containers_are_added(podman: Podman, node: Node) -> None:
    if isinstance(node[1], Reference):
        pytest.skip("the reference plugins have no GC, so what a killed runtime forgot stays")
    before = podman.machine.run("ip", "-br", "link")
    calls = _cut_off(podman, node, range(4))
    wait_for("a container's link", lambda: podman.machine.run("ip", "-br", "link") != before)
    _killed(podman, calls)
    _cleared(podman, node)


def test_a_container_outlives_restarts_between_its_steps(podman: Podman, node: Node) -> None:
    """Created, started, stopped, started again, removed: with the agent killed, absent or new at each."""
    network = networks(node)[0]
    where = ("--cgroup-parent", f"/{podman.machine.cgroup}", "--network", network, "-p", "8080:80")
    command = (images.BUSYBOX, "httpd", "-f", "-h", "/www")
    podman("create", "--name", "web", "--entrypoint", "", *where, *command)
    node[1].stop(signal.SIGKILL)
    podman("start", "web")
    node[1].start()
    _serves(podman, "web")
    assert reach.from_outside(podman.machine, NODE, 8080) == OUTSIDE
    node[1].stop(signal.SIGKILL)
    podman("stop", "-t", "0", "web")
    node[1].start()
    podman("start", "web")
    _serves(podman, "web")
    node[1].stop()
    podman("rm", "-f", "-t", "0", "web")
    node[1].start()
    with pytest.raises(AssertionError):
        reach.from_outside(podman.machine, NODE, 8080)

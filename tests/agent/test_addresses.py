"""Which address is the node's, on the real kernel: found, changed while it runs, and told to the peers."""

from __future__ import annotations

import pytest
from fleet import NETWORKS, Fleet, address_of, reaches, until

pytestmark = pytest.mark.kernel


def _pair(nodes: Fleet, network: str) -> tuple[str, str]:
    """A pod on each node; their addresses, that of a first."""
    machines = (nodes.machines["a"], nodes.machines["b"])
    first, second = (address_of(machine.attach(network, network)) for machine in machines)
    return first, second


def test_a_renewed_lease_reaches_every_peer(nodes: Fleet) -> None:
    """The address is another in an instant, as a DHCP client does it: routes, tunnels and pods follow."""
    a, b = nodes.machines["a"], nodes.machines["b"]
    addresses = {network: _pair(nodes, network) for network in NETWORKS}
    b.run("sysctl -qw net.ipv4.conf.eth0.promote_secondaries=1")  # as distributions have it
    b.run("ip address add 192.0.2.77/24 dev eth0")
    b.run("ip address del 192.0.2.2/24 dev eth0")
    until(lambda: "via 192.0.2.77" in a.run("ip route") and "via 192.0.2.2 " not in a.run("ip route"))
    until(lambda: "192.0.2.77" in a.run("bridge fdb") and "192.0.2.2 " not in a.run("bridge fdb"))
    until(lambda: "local 192.0.2.77" in b.run("ip -d link show type vxlan"))
    nodes.settle()
    for network, (_, theirs) in addresses.items():
        until(lambda network=network, theirs=theirs: reaches(a, network, theirs))  # type: ignore[misc]


def test_a_link_without_an_address_for_a_moment_takes_nothing_from_the_peers(nodes: Fleet) -> None:
    a, b = nodes.machines["a"], nodes.machines["b"]
    _, theirs = _pair(nodes, "tunnel")
    until(lambda: reaches(a, "tunnel", theirs))
    b.run("ip address flush dev eth0")
    b.says("it has no usable address")
    assert "192.0.2.2/24" in nodes.podway("get", "node", "b", "-o", "json")
    assert "dst 192.0.2.2 " in a.run("bridge fdb")
    b.run("ip address add 192.0.2.2/24 dev eth0")
    until(lambda: "no usable address" not in b.status())
    until(lambda: reaches(a, "tunnel", theirs))


def test_a_new_link_is_taken_when_it_is_asked_for(nodes: Fleet) -> None:
    """The Node document says so while the agent runs; a container bridge beside it is passed over."""
    a, b = nodes.machines["a"], nodes.machines["b"]
    _pair(nodes, "pods")
    for command in (
        "ip link add docker0 type bridge",
        "ip address add 172.17.0.1/16 dev docker0",
        "ip link set docker0 up",
        "ip link add link eth0 name fast0 type macvlan mode bridge",
        "ip address add 192.0.2.130/24 dev fast0",
        "ip link set fast0 up",
    ):
        b.run(command)
    nodes.settle()
    until(lambda: "via 192.0.2.2 " in a.run("ip route"))
    assert "172.17" not in nodes.podway("get", "node", "b", "-o", "json")
    nodes.put("Node", "b", {"detect": {"interfaces": ["fast.*"]}})
    until(lambda: "via 192.0.2.130" in a.run("ip route"))
    nodes.put("Node", "b", {"detect": {"canReach": "192.0.2.1"}})
    until(lambda: "via 192.0.2.2 " in a.run("ip route"))
    nodes.put("Node", "b", {"addresses": ["192.0.2.130/24"]})
    until(lambda: "via 192.0.2.130" in a.run("ip route"))
    nodes.put("Node", "b", {"addresses": ["192.0.2.222/24"]})
    b.says("192.0.2.222/24 is declared and on none of its links")


def test_the_agents_options(nodes: Fleet) -> None:
    """They choose where the Node document says nothing, and a wrong one is refused."""
    a, b = nodes.machines["a"], nodes.machines["b"]
    _pair(nodes, "pods")
    b.run("ip address add 192.0.2.140/24 dev eth0")
    b.stop()
    refused = b.podway("agent", "--cidr", "192.0.2.140/24")
    assert refused.returncode == 1 and "host bits" in refused.stderr
    b.options = ["--cidr", "192.0.2.128/25"]
    b.start()
    until(lambda: "via 192.0.2.140" in a.run("ip route"))
    until(lambda: "nothing to change" in b.podway("plan").stdout)
    b.stop()
    b.options = ["--interface", "wg0"]
    b.start()
    b.says("it has no usable address by interfaces wg0: eth0 has ")

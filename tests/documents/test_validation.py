"""What must hold between documents: no prefix or address has two meanings."""

from __future__ import annotations

from msgspec import structs

from podway.model.resources import FlannelSpec, Network, NetworkSpec, Node, NodeSpec, Pool
from podway.model.tunnels import WireguardSpec
from podway.model.validation import cluster_problems, network_problems


def network(name: str, *cidrs: str) -> Network:
    return Network(name=name, spec=NetworkSpec(pools=tuple(Pool(cidr=cidr) for cidr in cidrs)))


def node(name: str, *addresses: str) -> Node:
    return Node(name=name, spec=NodeSpec(addresses=addresses))


def found(
    networks: list[Network], nodes: list[Node] | None = None, routes: list[str] | None = None
) -> list[str]:
    problems = cluster_problems({n.name: n for n in networks}, {n.name: n for n in nodes or []}, routes or [])
    return [f"{one.kind} {one.name} {one.problem.path}: {one.problem.what}" for one in problems]


def test_what_does_not_touch_is_fine() -> None:
    networks = [network("a", "10.0.0.0/16", "fd00::/48"), network("b", "10.1.0.0/16")]
    nodes = [node("x", "192.0.2.1/24", "fd01::1/64"), node("y", "192.0.2.2/24")]
    assert found(networks, nodes, ["192.0.2.0/24", "10.2.0.0/16", "fd01::/64"]) == []


def test_pools_of_two_networks_overlap_for_both() -> None:
    assert found([network("a", "10.0.0.0/8"), network("b", "fd00::/48", "10.1.0.0/16")]) == [
        "Network a spec.pools[0].cidr: 10.0.0.0/8 overlaps pool 10.1.0.0/16 of network b",
        "Network b spec.pools[1].cidr: 10.1.0.0/16 overlaps pool 10.0.0.0/8 of network a",
    ]


def test_two_networks_in_one_tunnel() -> None:
    one, other = (structs.replace(network(n, c)) for n, c in (("a", "10.0.0.0/16"), ("b", "10.1.0.0/16")))
    same = [structs.replace(n, spec=structs.replace(n.spec, transport="vxlan")) for n in (one, other)]
    assert found(same) == [
        "Network a spec.vxlan.vni: VNI 1 on UDP port 8472 is network b's already",
        "Network b spec.vxlan.vni: VNI 1 on UDP port 8472 is network a's already",
    ]
    far = structs.replace(same[1].spec.vxlan, underlay="ipv6")
    apart = structs.replace(same[1], spec=structs.replace(same[1].spec, vxlan=far))
    assert found([same[0], apart]) == []


def test_a_vni_or_port_out_of_range() -> None:
    for key, value in (("vni", 0), ("vni", 1 << 24), ("port", 0), ("port", 65536)):
        spec = network("a", "10.0.0.0/16").spec
        wrong = structs.replace(spec, vxlan=structs.replace(spec.vxlan, **{key: value}))
        assert [problem.path for problem in network_problems(wrong)] == [f"spec.vxlan.{key}"]


def test_plaintext_beside_wireguard_is_asked_for_twice() -> None:
    """directWithinSubnet sends it to neighbours: refused with what to do until allowPlaintext says so too."""
    spec = structs.replace(network("a", "10.0.0.0/16").spec, preset="calico-wireguard")
    direct = structs.replace(spec, wireguard=WireguardSpec(direct_within_subnet=True))
    (problem,) = network_problems(direct)
    assert problem.path == "spec.wireguard.directWithinSubnet" and "plaintext" in problem.what
    assert "wireguard.allowPlaintext: true" in problem.fix
    allowed = structs.replace(spec, wireguard=WireguardSpec(direct_within_subnet=True, allow_plaintext=True))
    assert network_problems(allowed) == []


def test_a_pool_over_a_nodes_address_is_told_to_both() -> None:
    assert found([network("a", "192.0.2.0/24")], [node("x", "fd00::1/64", "192.0.2.1/24")]) == [
        "Network a spec.pools[0].cidr: 192.0.2.0/24 holds 192.0.2.1, the address of node x",
        "Node x spec.addresses[1]: 192.0.2.1 is in pool 192.0.2.0/24 of network a",
    ]


def test_two_nodes_with_one_address() -> None:
    assert found([], [node("x", "192.0.2.1/24"), node("y", "192.0.2.1/16")]) == [
        "Node x spec.addresses[0]: 192.0.2.1 is an address of node y too",
        "Node y spec.addresses[0]: 192.0.2.1 is an address of node x too",
    ]


def test_a_pool_over_or_inside_a_route_of_the_host() -> None:
    routes = ["0.0.0.0/0", "::/0", "10.0.0.0/8", "172.16.5.0/24", "fd00:1::/64"]
    assert found([network("a", "10.1.0.0/16", "172.16.0.0/12", "fd00::/16")], routes=routes) == [
        "Network a spec.pools[0].cidr: 10.1.0.0/16 overlaps this host's route 10.0.0.0/8",
        "Network a spec.pools[1].cidr: 172.16.0.0/12 overlaps this host's route 172.16.5.0/24",
        "Network a spec.pools[2].cidr: fd00::/16 overlaps this host's route fd00:1::/64",
    ]


def test_interop_goes_with_flannels_own_ways_only() -> None:
    """It needs an etcd, a transport that Flannel has, and one pool of each family."""
    pools = (Pool(cidr="10.0.0.0/16"),)
    etcd = FlannelSpec(etcd="etcd:http://192.0.2.10:2379/coreos.com/network")
    good = NetworkSpec(pools=pools, preset="flannel-vxlan", interop="flannel-etcd", flannel=etcd)
    assert network_problems(good) == []
    for wrong, path in (
        (structs.replace(good, preset="docker"), "spec.interop"),
        (structs.replace(good, flannel=FlannelSpec()), "spec.flannel.etcd"),
        (structs.replace(good, interop=""), "spec.flannel"),
        (structs.replace(good, pools=(*pools, Pool(cidr="10.1.0.0/16"))), "spec.pools"),
    ):
        assert [problem.path for problem in network_problems(wrong)] == [path]

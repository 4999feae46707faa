"""Two nodes with a pod each, carried between the nodes by Podway, by flanneld, or by hand with ``ip``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from bench import flannel, podway
from bench.host import Host, host
from bench.segment import ETCD, Segment, address, carries, etcd, segment

POOL = "10.98.0.0/16"


class Pair(NamedTuple):
    """Nodes and pods; ``there`` is the second pod's address.

    ``restart``: the first node's daemon, anew; ``change``: the transport, as an operator changes it."""

    nodes: tuple[Host, Host]
    pods: tuple[Host, Host]
    there: str
    restart: Callable[[], None]
    change: Callable[[str], None]


@contextlib.contextmanager
def _hosts(name: str) -> Iterator[tuple[Segment, list[Host], list[Host]]]:
    with segment(name) as lan, contextlib.ExitStack() as stack:
        nodes = [stack.enter_context(lan.host(f"n{number}", number)) for number in (1, 2)]
        carries(nodes[0], address(2))
        yield lan, nodes, [stack.enter_context(host(f"{name}-p{number}")) for number in (1, 2)]


@contextlib.contextmanager
def ours(directory: Path, transport: str) -> Iterator[Pair]:
    """Podway's defaults."""
    with _hosts(f"o{transport[0]}") as (_, nodes, pods), contextlib.ExitStack() as stack:
        made = [podway.Node(one, directory, f"sqlite:{directory}/store.db") for one in nodes]
        made[0].apply(podway.network("pods", POOL, transport=transport))
        agents = [stack.enter_context(contextlib.ExitStack()) for _ in made]
        for node, agent in zip(made, agents, strict=True):
            agent.enter_context(node.agent())
        there = [node.attach(pod) for node, pod in zip(made, pods, strict=True)][1]

        def restart() -> None:
            agents[0].close()
            agents[0].enter_context(made[0].agent())

        def change(to: str) -> None:
            made[0].apply(podway.network("pods", POOL, transport=to))

        carries(pods[0], there)
        yield Pair((nodes[0], nodes[1]), (pods[0], pods[1]), there, restart, change)


@contextlib.contextmanager
def theirs(directory: Path, transport: str) -> Iterator[Pair]:
    """flanneld with --ip-masq, as it is deployed."""
    with _hosts(f"f{transport[0]}") as (lan, nodes, pods), etcd(lan, directory) as store:
        carries(nodes[0], ETCD)
        flannel.configure(store, transport)
        made = [flannel.Node(one, directory, "-ip-masq") for one in nodes]
        try:
            for node in made:
                node.start()
                node.wait()
            there = [node.attach(pod) for node, pod in zip(made, pods, strict=True)][1]

            def restart() -> None:
                made[0].end()
                made[0].start()
                made[0].wait()

            def change(to: str) -> None:
                # it reads its configuration once
                flannel.configure(store, to)
                for node in made:
                    node.end()
                    node.start()
                    node.wait()

            carries(pods[0], there)
            yield Pair((nodes[0], nodes[1]), (pods[0], pods[1]), there, restart, change)
        finally:
            for node in made:
                node.end()


@contextlib.contextmanager
def by_hand(directory: Path, transport: str) -> Iterator[Pair]:
    """What the same takes with ``ip`` and ``bridge``, and no firewall."""
    with _hosts(f"h{transport[0]}") as (_, nodes, pods):
        mtu = 1450 if transport == "vxlan" else 1500
        for number, (node, pod) in enumerate(zip(nodes, pods, strict=True), 1):
            other = 3 - number
            node.run(f"ip link add br0 mtu {mtu} type bridge")
            node.run(f"ip addr add 10.97.{number}.1/24 dev br0")
            node.run("ip link set br0 up")
            if transport == "vxlan":
                _tunnel(node, number, other)
            else:
                node.run(f"ip route add 10.97.{other}.0/24 via {address(other)}")
            node.run(f"ip link add p0 mtu {mtu} type veth peer name eth0 mtu {mtu} netns {pod.name}")
            node.run("ip link set p0 master br0 up")
            pod.run(f"ip addr add 10.97.{number}.2/24 dev eth0")
            pod.run("ip link set eth0 up")
            pod.run(f"ip route add default via 10.97.{number}.1")
        carries(pods[0], "10.97.2.2")
        yield Pair((nodes[0], nodes[1]), (pods[0], pods[1]), "10.97.2.2", lambda: None, lambda to: None)


def _tunnel(node: Host, number: int, other: int) -> None:
    mac = "02:00:00:00:00:0{}"
    options = f"id 1 dstport 8472 local {address(number)} nolearning"
    node.run(f"ip link add vx address {mac.format(number)} mtu 1450 type vxlan {options}")
    node.run(f"ip addr add 10.97.{number}.0/32 dev vx")
    node.run("ip link set vx up")
    node.run(f"ip neigh add 10.97.{other}.0 lladdr {mac.format(other)} dev vx nud permanent")
    node.run(f"bridge fdb add {mac.format(other)} dev vx dst {address(other)}")
    node.run(f"ip route add 10.97.{other}.0/24 via 10.97.{other}.0 dev vx onlink")


SIDES = {"ours": ours, "hand": by_hand, "theirs": theirs}

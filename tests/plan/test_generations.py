"""A network changes its way under nodes that look, apply, tell and crash in any order: at no moment is a
packet sent by a way that its receiver does not hold, and a way that led to a peer never goes missing."""

from __future__ import annotations

import random
from collections.abc import Iterator

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from podway.delta.differ import diff, on_link
from podway.model.objects import Actual, Link, Op, Route, Sysctl
from podway.model.resources import (
    Block,
    BlockSpec,
    Endpoint,
    Network,
    NetworkSpec,
    Node,
    NodeFacts,
    NodeSpec,
    Paths,
    Pool,
    Snapshot,
    Uplink,
    VxlanSpec,
    WireguardSpec,
)
from podway.model.wireguard import WgAllowed, WgDevice
from podway.plan import mtu, transport
from podway.plan.generation import Now, idle, introduction, pods, progress, told
from podway.plan.planner import Planner
from podway.plan.transport import carriage
from podway.plan.way import Way, wanted

MAC = "02:00:00:00:00:01"
NAMES = ("a", "b", "c")
SPECS = [
    {"transport": "host-gw"},
    {"transport": "vxlan"},
    {"transport": "vxlan", "vxlan": VxlanSpec(vni=2)},
    {"transport": "vxlan", "vxlan": VxlanSpec(port=4789)},
    {"transport": "vxlan", "vxlan": VxlanSpec(underlay="ipv6")},
    {"transport": "vxlan", "mtu": 1400},
    {"transport": "ipip"},
    {"transport": "host-gw", "mtu": 1300},
    {"transport": "wireguard"},
    {"transport": "wireguard", "wireguard": WireguardSpec(port=51821)},
]


def network(number: int) -> Network:
    """The network in one of its shapes."""
    return Network(name="net", spec=NetworkSpec(pools=(Pool(cidr="10.1.0.0/16"),), **SPECS[number]))  # type: ignore[arg-type]


def addresses(name: str) -> tuple[str, ...]:
    number = NAMES.index(name) + 1
    return (f"192.0.2.{number}/24", f"2001:db8::{number}/64")


def block(name: str) -> str:
    return f"10.1.{NAMES.index(name) + 1}.0/24"


class Store:
    """What all nodes see; ``snapshot`` is of one moment."""

    def __init__(self, spec: int) -> None:
        self.network = network(spec)
        self.paths: dict[str, dict[str, Paths]] = {}
        self.machines: dict[str, Machine] = {}

    def snapshot(self) -> Snapshot:
        return Snapshot(
            networks={"net": self.network},
            nodes={
                n: Node(name=n, spec=NodeSpec(addresses=addresses(n)), paths=self.paths.get(n, {}))
                for n in NAMES
            },
            blocks={
                block(n): Block(cidr=block(n), spec=BlockSpec(network="net", node=n, attach="bridge"))
                for n in NAMES
            },
            synced=True,
        )


class Machine:
    """One node: a planner, a kernel that outlives it, and operations not applied yet."""

    def __init__(self, name: str, store: Store) -> None:
        self.name = name
        self.store = store
        self.kernel: Actual = {}
        self.planner: Planner | None = None
        self.pending: list[Op] = []
        first = 1500 - mtu.most_overhead(store.network.spec)
        first = first if store.network.spec.mtu == "auto" else store.network.spec.mtu
        self.keys: dict[str, str] = {}
        self.met: set[tuple[str, str]] = set()
        self.pod = Endpoint(container="c", ifname="eth0", network="net", addresses=(), mac=MAC, mtu=first)

    def look(self) -> None:
        """List everything and plan; who is new tells what it is about to send, and lists again."""
        if self.planner is None:
            uplink = Uplink(name="up0", mtu=1500, addresses=addresses(self.name))
            self.planner = Planner(NodeFacts(name=self.name, uplinks=(uplink,), keys=dict(self.keys)))
            self.planner.update_endpoint(self.pod.id, self.pod)
        if self.name not in self.store.paths:
            first = introduction(self.planner, self.store.network, self._now({}))
            self.store.paths[self.name] = {"net": first}
        self.planner.update_snapshot(self.store.snapshot())
        self._follow_keys(self.planner)
        self.pending = list(diff(self.planner.desired, self.kernel).ops)

    def _follow_keys(self, planner: Planner) -> None:
        """As the engine does: a key for each way of WireGuard, for as long as that is held; handshakes."""
        ways = [way for way in planner.inputs.held["net"].ways if way.transport == "wireguard"]
        self.keys = {way.text: self.keys.get(way.text, f"{self.name} {way.text}") for way in ways}
        planner.update_facts(msgspec.structs.replace(planner.inputs.facts, keys=dict(self.keys)))
        self.met = {(link, key) for link, key in self.met if ("wgpeer", link, key) in self.kernel}
        for peer in self.store.machines.values():
            for link in self.knows(peer) & peer.knows(self):
                self.met.add((link, peer.key_of(link)))
        planner.update_met(self.met)

    def key_of(self, link: str) -> str:
        """The public key of a WireGuard device, "" without one."""
        found = self.kernel.get(("wgdevice", link))
        return found.public_key if isinstance(found, WgDevice) else ""

    def knows(self, peer: Machine) -> set[str]:
        """The WireGuard devices that take what a peer sends from its block, and send it there."""
        allowed = [one for one in self.kernel.values() if isinstance(one, WgAllowed)]
        return {
            one.link
            for one in allowed
            if one.prefix == block(peer.name)
            and one.peer == peer.key_of(one.link) != ""
            and ("wgpeer", one.link, one.peer) in self.kernel
            and self.key_of(one.link)
        }

    def apply(self, count: int | None = None) -> Iterator[Op]:
        """Up to ``count`` operations, each yielded once it is done."""
        for op in self.pending[:count]:
            subject = op.want or op.have
            assert subject is not None
            if op.want is not None:
                self.kernel[subject.key] = op.want
            else:
                self.kernel.pop(subject.key, None)
                if isinstance(subject, Link):
                    gone = [key for key, value in self.kernel.items() if on_link(value) == subject.name]
                    for key in gone:
                        del self.kernel[key]
            self.pending = self.pending[1:]
            yield op

    def tell(self, patient: bool) -> bool:
        """Publish, after everything is applied; whether that was news."""
        if self.planner is None or self.pending:
            return False
        own = self.planner.inputs.own_paths("net")
        now = self._now({"net": own} if own else {})
        new = told(self.planner, now, frozenset() if patient else idle(self.planner, now))
        changed = self.store.paths.get(self.name) != new
        self.store.paths[self.name] = new
        return changed

    def _now(self, own: dict[str, Paths]) -> Now:
        return Now(own, self._stands, pods([self.pod]))

    def resize(self) -> None:
        """The pod follows, in the order of the engine: after everything else."""
        if self.planner is None or self.pending:
            return
        size = self.planner.inputs.sizes["net"]
        routes = size.routes if size.routes < size.links else 0
        self.pod = msgspec.structs.replace(self.pod, mtu=size.links, route_mtu=routes)
        self.planner.update_endpoint(self.pod.id, self.pod)
        self.pending = list(diff(self.planner.desired, self.kernel).ops)

    def _stands(self, way: Way) -> bool:
        assert self.planner is not None
        keys = transport.receiver(way, self.planner.inputs.facts)
        return all(self.kernel.get(key) == self.planner.desired.get(key) for key in keys)

    def crash(self) -> None:
        """The agent ends; the kernel goes on."""
        self.planner, self.pending = None, []

    def route(self, peer: str) -> Route | None:
        found = self.kernel.get(("route", "254", block(peer), "0"))
        return found if isinstance(found, Route) else None


class Cluster:
    """All machines, and what must hold at every moment."""

    def __init__(self, spec: int) -> None:
        self.store = Store(spec)
        self.machines = {name: Machine(name, self.store) for name in NAMES}
        self.store.machines = self.machines
        self.reached: set[tuple[str, str]] = set()

    def check(self) -> None:
        for sender in self.machines.values():
            for receiver in self.machines.values():
                if sender is not receiver:
                    self._pair(sender, receiver)

    def _pair(self, sender: Machine, receiver: Machine) -> None:
        pair = (sender.name, receiver.name)
        route = sender.route(receiver.name)
        if route is None:
            assert pair not in self.reached, f"{pair}: the route is gone"
            return
        if route.dev.startswith("pww") and route.dev not in sender.knows(receiver) & receiver.knows(sender):
            assert pair not in self.reached, f"{pair}: {route.dev} leads to who doesn't know the sender"
            return  # until they have met, but nothing else led there
        self.reached.add(pair)
        if route.dev != "up0":
            assert ("link", route.dev) in sender.kernel and ("link", route.dev) in receiver.kernel, (
                pair,
                route,
            )
            if route.dev.startswith("pwv"):
                assert ("neighbour", route.dev, route.via, "") in sender.kernel
                assert any(key[:2] == ("fdb", route.dev) for key in sender.kernel)
        largest = sender.pod.route_mtu or sender.pod.mtu
        carries = sender.kernel["link", route.dev].mtu if route.dev != "up0" else 1500  # type: ignore[union-attr]
        assert carries is not None and largest <= carries, (pair, "too large for the way", largest, carries)
        assert largest <= receiver.pod.mtu, (pair, "too large for the pod", largest, receiver.pod.mtu)
        back = receiver.route(sender.name)
        if back is not None and back.dev != route.dev:
            loose = receiver.kernel.get(transport.loose(route.dev).key)
            assert isinstance(loose, Sysctl) and loose.value == "2", (pair, route.dev)

    def step(self, machine: Machine, action: str, number: int) -> None:
        if action == "spec":
            self.store.network = network(number % len(SPECS))
        elif action == "crash":
            machine.crash()
        elif action == "look":
            machine.look()
        elif action == "resize":
            machine.resize()
        elif action == "tell":
            machine.tell(patient=number % 2 == 0)
        else:
            for _ in machine.apply(None if action == "all" else number + 1):
                self.check()
        self.check()

    def settle(self) -> None:
        """Everybody works again, until nobody has news."""
        for _ in range(20):
            news = False
            for machine in self.machines.values():
                machine.look()
                for _ in machine.apply():
                    self.check()
                machine.resize()
                for _ in machine.apply():
                    self.check()
                news |= machine.tell(patient=False)
            if not news:
                return
        raise AssertionError(f"never ends: {self.store.paths}")

    def is_done(self) -> None:
        way = wanted(self.store.network.spec)
        size = mtu.effective(self.store.network, NodeFacts(name="", uplinks=(Uplink(name="up0", mtu=1500),)))
        for machine in self.machines.values():
            said = self.store.paths[machine.name]["net"]
            assert (said.accepts, said.sends) == ((way.text,), (way.text,))
            assert (machine.pod.mtu, machine.pod.route_mtu) == (size, 0)
            tunnels = {o.name for o in machine.kernel.values() if isinstance(o, Link) and carriage(o)}
            assert tunnels == {
                key[1] for key in transport.receiver(way, NodeFacts(name="")) if key[0] == "link"
            }
            assert all(machine.route(peer) for peer in NAMES if peer != machine.name)


DOINGS = ["look", "some", "all", "resize", "tell", "tell"]
steps = st.tuples(
    st.sampled_from(NAMES),
    st.sampled_from(
        ["look", "look", "some", "all", "all", "resize", "resize", "tell", "tell", "crash", "spec"]
    ),
    st.integers(0, 9),
)


@settings(max_examples=150)
@given(st.integers(0, len(SPECS) - 1), st.lists(steps, max_size=60))
def test_any_interleaving(spec: int, moves: list[tuple[str, str, int]]) -> None:
    """Whatever the order: nothing is sent that isn't received, and in the end only the wanted way stands."""
    cluster = Cluster(spec)
    cluster.settle()
    for name, action, number in moves:
        cluster.step(cluster.machines[name], action, number)
    cluster.settle()
    cluster.is_done()


def test_random_walks() -> None:
    """The same over long walks with few changes of the network, where generations overlap."""
    for seed in range(25):
        dice = random.Random(seed)
        cluster = Cluster(dice.randrange(len(SPECS)))
        cluster.settle()
        for _ in range(150):
            action = "spec" if dice.random() < 0.04 else dice.choice(DOINGS)
            cluster.step(cluster.machines[dice.choice(NAMES)], action, dice.randrange(10))
        cluster.settle()
        cluster.is_done()


def test_a_node_that_is_down_holds_the_old_way_and_catches_up() -> None:
    """While it is down the others send it the old way, and the new one among themselves."""
    cluster = Cluster(1)
    cluster.settle()
    cluster.store.network = network(2)
    up = [cluster.machines[name] for name in "ab"]
    for _ in range(6):
        for machine in up:
            machine.look()
            list(machine.apply())
            machine.tell(patient=False)
            cluster.check()
    old, new = (transport.receiver(wanted(network(n).spec), NodeFacts(name=""))[0][1] for n in (1, 2))
    devices = {peer: route.dev for peer in "bc" if (route := cluster.machines["a"].route(peer))}
    assert devices == {"b": new, "c": old}
    assert ("link", old) in cluster.machines["b"].kernel
    planner = cluster.machines["a"].planner
    assert planner is not None
    assert progress(planner) == ["network net: vxlan:1:8472:4 goes; waits for node c"]
    cluster.settle()
    assert progress(planner) == []
    cluster.is_done()


def test_nothing_is_sent_to_a_peer_that_accepts_nothing_yet() -> None:
    """A node that just registered is no destination before its receiver stands."""
    cluster = Cluster(1)
    cluster.machines["a"].look()
    list(cluster.machines["a"].apply())
    cluster.machines["b"].look()
    cluster.machines["a"].look()
    assert cluster.machines["a"].route("b") is None or not cluster.machines["a"].pending
    cluster.settle()
    cluster.is_done()


def test_there_and_back_and_there_at_the_worst_moment() -> None:
    """One node starts to go back to the old way while another lets go of it, unseen."""
    cluster = Cluster(1)
    cluster.settle()
    cluster.store.network = network(2)
    for _ in range(6):
        for machine in cluster.machines.values():
            machine.look()
            list(machine.apply())
            machine.tell(patient=True)
    a, b = cluster.machines["a"], cluster.machines["b"]
    cluster.store.network = network(1)
    a.look()
    cluster.store.network = network(2)
    b.tell(patient=False)
    b.look()
    list(b.apply())
    for _ in a.apply():
        cluster.check()
    cluster.settle()
    cluster.is_done()

"""Two nodes of a cluster in one process, a pod each: the agents' engines without their processes, which an
emulated machine would be minutes about."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from streams import Pod

from podway.kernel import namespaces
from podway.kernel.facade import Kernel
from podway.model.objects import Address, Link, Op, Peer, Route
from podway.node.engine import NodeEngine, open_engine
from podway.node.requests import AttachRequest
from podway.plan.path import Chosen, PathKey
from podway.plan.way import DIRECT, by_family, wishes
from podway.store import Record, Store, open_store

PATIENCE = 60.0
POOLS = [{"cidr": "10.244.0.0/16"}, {"cidr": "fd00:10:244::/48"}]
NODES = {"a": ("192.0.2.1/24", "2001:db8::1/64"), "b": ("192.0.2.2/24", "2001:db8::2/64")}
T = TypeVar("T")


class Machine:
    """A node in a namespace of its own, with a pod."""

    def __init__(self, name: str, namespace: int, pod: int, engine: NodeEngine) -> None:
        self.name, self.namespace, self.engine = name, namespace, engine
        self._pod = pod
        self.addresses: list[str] = []

    def within(self, job: Callable[[Kernel], T]) -> T:
        """What is done to the node's kernel, without its engine."""
        with namespaces.entered(self.namespace):
            kernel = Kernel()
            try:
                return job(kernel)
            finally:
                kernel.close()

    def look(self, whole: bool = True) -> None:
        """What an agent does when the store tells of a change, or (``whole``) once in a while."""
        with namespaces.entered(self.namespace):
            report = self.engine.synchronize() if whole else self.engine.follow_store()
        assert not report.failures, report.failures

    def prove(self, peer: str) -> None:
        """What an agent's questions lead to on one segment: the peer can be sent to directly."""
        found = {PathKey("pods", peer, family): Chosen("direct", "proved") for family in (4, 6)}
        with namespaces.entered(self.namespace):
            report = self.engine.choose(found)
        assert report is None or not report.failures, report

    def attach(self) -> None:
        request = AttachRequest(container=self.name, ifname="eth0", network="pods", namespace=self.path)
        with namespaces.entered(self.namespace):
            endpoint = self.engine.add(request, self._pod)
        self.addresses = [address.partition("/")[0] for address in endpoint.addresses]

    @property
    def path(self) -> str:
        """Its pod's namespace, for other processes too."""
        return f"/proc/{os.getpid()}/fd/{self._pod}"


class Cluster:
    """A store and its two nodes."""

    def __init__(self, store: Store, machines: tuple[Machine, Machine]) -> None:
        self._store = store
        self.machines = machines

    def pods(self) -> list[Pod]:
        return [Pod(one.name, one.path, one.addresses) for one in self.machines]

    def apply(self, spec: dict[str, Any]) -> None:
        """Another spec of the network; ``settle`` carries it out."""
        record = self._store.get("Network", "pods")
        self._store.update_spec(msgspec.structs.replace(record, spec=text_of(spec)))

    def settle(self) -> None:
        """Let both look until they accept and send the wanted ways only, and no look finds any work."""
        deadline = time.monotonic() + PATIENCE
        while True:
            for machine, other in zip(self.machines, reversed(self.machines), strict=True):
                machine.look(whole=False)
                machine.prove(other.name)
            if all(self._is_settled(machine.engine) for machine in self.machines):
                break
            assert time.monotonic() < deadline, [one.engine.cluster.own_paths for one in self.machines]
            time.sleep(0.05)
        for machine in self.machines:
            machine.look()

    def _is_settled(self, engine: NodeEngine) -> bool:
        told = engine.cluster.own_paths.get("pods")
        spec = engine.planner.inputs.networks["pods"].spec
        ways = {*wishes(spec), *by_family(spec)}
        texts = tuple(sorted(way.text for way in ways))
        return (
            told is not None
            and (told.accepts, told.sends) == (texts, texts)
            and engine.planner.sends("pods") == ({DIRECT} if DIRECT in ways else ways)  # all are neighbours
        )


def text_of(spec: dict[str, Any]) -> bytes:
    return msgspec.json.encode({"attach": "bridge", "pools": POOLS} | spec)


def _cable(own: int, other: int) -> None:
    """An uplink of each, with its addresses."""
    with namespaces.entered(own):
        kernel = Kernel()
        kernel.apply(
            [Op(Link(name="up0", kind="veth", peer=Peer(name="up0", namespace="o")), None)], {"o": other}
        )
        kernel.close()
    for namespace, addresses in zip((own, other), NODES.values(), strict=True):
        with namespaces.entered(namespace):
            kernel = Kernel()
            ops = [Op(Link(name="lo", kind=""), Link(name="lo", kind="", up=False))]
            ops += [Op(Link(name="up0", kind="veth"), Link(name="up0", kind="veth", up=False))]
            ops += [Op(Address(link="up0", address=one, nodad=True), None) for one in addresses]
            ops += [Op(Route(dst="0.0.0.0/0", via="192.0.2.254", dev="up0", protocol=3), None)]
            failed = [one for one in kernel.apply(ops) if one.errno]
            kernel.close()
            assert not failed, failed


@contextlib.contextmanager
def cluster(directory: Path, spec: dict[str, Any]) -> Iterator[Cluster]:
    """Both nodes as the spec wants them, their pods attached."""
    url = f"sqlite:{directory}/store.db"
    with contextlib.ExitStack() as stack:
        store = open_store(url, create=True)
        stack.callback(store.close)
        store.create(Record(kind="Network", name="pods", spec=text_of(spec)))
        made = [namespaces.create() for _ in range(4)]
        for fd in made:
            stack.callback(os.close, fd)
        _cable(*made[:2])
        machines = []
        for name, namespace, pod in zip(NODES, made[:2], made[2:], strict=True):
            with namespaces.entered(namespace):
                engine = stack.enter_context(open_engine(name, str(directory / name), url))
            machines.append(Machine(name, namespace, pod, engine))
            machines[-1].attach()
        whole = Cluster(store, (machines[0], machines[1]))
        whole.settle()
        yield whole

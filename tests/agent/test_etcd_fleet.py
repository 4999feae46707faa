"""Machines that share nothing but a network, over an etcd of three members on it: outages cost nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet import Fleet, Machine, address_of, reaches, until

from etcd_cluster import Cluster, Member, b64, resume
from pings import Pings
from podway.kernel import namespaces

pytestmark = pytest.mark.kernel

HOSTS = [100, 101, 102]
DOCUMENT = """
apiVersion: podway.dev/v1
kind: Network
metadata: {name: %s}
spec: {preset: flannel-vxlan, pools: [{cidr: %s, blockSize: %d}], vxlan: {vni: %d}}
"""
BOUND = 20.0  # seconds for what takes a fraction of one on a quiet machine


class EtcdFleet(Fleet):
    """Nodes ``a`` and ``b``, and the members' machines."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        peers = [f"m{number}=http://192.0.2.{number}:2380" for number in HOSTS]
        self.url = "etcd:" + ",".join(f"http://192.0.2.{number}:2379" for number in HOSTS)
        members = []
        for number in HOSTS:
            place = self.add(f"m{number}", number).place
            client, peer = f"http://192.0.2.{number}:2379", f"http://192.0.2.{number}:2380"
            members.append(Member(directory, f"m{number}", client, peer, ",".join(peers), namespace=place))
        self.etcd = Cluster(members)
        self.start_store()
        for number, name in enumerate("ab", 1):
            self.add(name, number)
        self.declare("pods", "10.244.0.0/16", 1)

    def declare(self, name: str, cidr: str, vni: int, block_size: int = 24) -> None:
        path = self.directory / f"{name}.yaml"
        path.write_text(DOCUMENT % (name, cidr, block_size, vni))
        done = self.machines["a"].podway("apply", "-f", str(path))
        assert done.returncode == 0, done.stderr

    def start_store(self) -> None:
        for member in self.etcd.members:
            if member.process is None:
                member.start()
        with namespaces.entered(self.machines["m100"].place):
            self.etcd.wait()

    def close(self) -> None:
        for member in self.etcd.members:
            resume(member)
        self.etcd.stop()
        super().close()


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[EtcdFleet]:
    made = EtcdFleet(tmp_path)
    try:
        for name in "ab":
            made.machines[name].start()
        yield made
    finally:
        made.close()


def traffic_to(machine: Machine, pod: str, address: str) -> Pings:
    """From a pod of the machine."""
    with namespaces.entered(machine.pods[pod]):
        return Pings(address)


def pair(nodes: EtcdFleet) -> tuple[Machine, Machine, str]:
    """Both nodes with a pod "first" each, which reach each other; the address of b's."""
    a, b = nodes.machines["a"], nodes.machines["b"]
    a.attach("first")
    address = address_of(b.attach("first"))
    until(lambda: reaches(a, "first", address), "pod to pod")
    return a, b, address


def cpu(machine: Machine) -> float:
    """Seconds of processor time that the agent has used."""
    assert machine.process is not None
    fields = Path(f"/proc/{machine.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def ping_within_node(nodes: EtcdFleet, names: str, container: str) -> None:
    """ADD a pod on each of the nodes, and it reaches the first."""
    for name in names:
        machine = nodes.machines[name]
        began = time.monotonic()
        own = address_of(machine.attach(container))
        assert time.monotonic() - began < BOUND
        until(lambda m=machine, to=own: reaches(m, container, to), container)


def outage(nodes: EtcdFleet, seconds: float) -> None:
    """No store at all for so long: no packet is lost, pods come and go, and nothing is busy waiting."""
    a, b, address = pair(nodes)
    traffic = traffic_to(a, "first", address)
    nodes.etcd.stop()
    a.says("the last known state is kept")
    before, began = cpu(a), time.monotonic()
    time.sleep(seconds)
    assert (cpu(a) - before) / (time.monotonic() - began) < 0.2
    ping_within_node(nodes, "ab", "second")
    until(lambda: reaches(a, "second", address), "a pod made in the outage reaches the other node's")
    a.run("ip route del " + a.run("ip route show proto 112").splitlines()[0].split(" proto")[0])
    until(lambda: reaches(a, "second", address), "repaired in the outage")
    a.stop(signal.SIGKILL)
    a.start()  # knows what it knew
    ping_within_node(nodes, "a", "third")
    nodes.start_store()
    a.says("store synced")
    b.says("store synced")
    nodes.declare("more", "10.99.0.0/16", 2)
    until(lambda: a.attach("more", "more", check=False).get("ips"), "a block of a new network")
    assert traffic.lost(least=50) == []


def test_an_outage_of_the_whole_store_costs_nothing(nodes: EtcdFleet) -> None:
    outage(nodes, 3.0)


@pytest.mark.soak
def test_an_outage_of_minutes_costs_nothing(nodes: EtcdFleet) -> None:
    outage(nodes, 240.0)


def seconds_by_hand(command: str, machine: Machine, name: str, places: list[str]) -> float:
    """How long the call takes, the command's own start included."""
    path = f"/proc/{os.getpid()}/fd/{machine.pods.setdefault(name, namespaces.create())}"
    began = time.monotonic()
    done = machine.podway("cni", command, "pods", path, *places)
    assert done.returncode == 0, done.stderr
    return time.monotonic() - began


def test_a_store_that_hangs_holds_up_nobody(nodes: EtcdFleet, tmp_path: Path) -> None:
    """Members that take connections and answer nothing; a new block is waited for, and nothing else."""
    a, b, address = pair(nodes)
    nodes.declare("more", "10.99.0.0/16", 2, block_size=30)  # a block has room for one pod
    until(lambda: a.attach("one", "more", check=False).get("ips"), "the first block")
    traffic = traffic_to(a, "first", address)
    places = ["--bin-dir", str(a.directory / "bin"), "--conf-dir", str(tmp_path)]
    assert a.podway("cni", "install", "--network", "pods", *places).returncode == 0
    for member in nodes.etcd.members:
        member.signal(signal.SIGSTOP)
    claimed: list[dict[str, object]] = []
    claim = threading.Thread(target=lambda: claimed.append(a.attach("two", "more", check=False)))
    claim.start()
    assert min(seconds_by_hand("add", a, str(n), places) for n in range(3)) < 4.0  # a call's patience is 5
    assert min(seconds_by_hand("del", a, str(n), places) for n in range(3)) < 4.0
    b.stop()
    ping_within_node(nodes, "b", "third")  # carried out without an agent
    for member in nodes.etcd.members:
        resume(member)
    claim.join()
    if "ips" not in claimed[0]:  # it was told to come again, as a runtime does
        assert claimed[0]["code"] == 11, claimed
        until(lambda: a.attach("two", "more", check=False).get("ips"), "the block is claimed afterwards")
    mine = {"network": "more", "node": "a", "attach": "bridge"}
    assert len([one for one in listed(a, "blocks") if one["spec"] == mine]) == 2
    assert traffic.lost(least=50) == []


def test_a_lease_that_runs_out_marks_a_node_and_removes_nothing(nodes: EtcdFleet) -> None:
    a, b, address = pair(nodes)
    shown = a.podway("get", "nodes", "-o", "wide").stdout
    assert len(re.findall(r"(a|b) .*alive", shown)) == 2, shown
    b.stop(signal.SIGKILL)
    expire(nodes, "b")
    a.says("suspect: node b is not heard of")
    assert re.search(r"b .*suspect", a.podway("get", "nodes", "-o", "wide").stdout)
    assert reaches(a, "first", address) and a.settled()
    until(lambda: re.search(r"suspect +node b", a.podway("journal").stdout), "written down")
    b.start()
    until(lambda: "suspect" not in a.status(), "alive again")
    until(lambda: re.search(r"alive +node b", a.podway("journal").stdout), "written down")


def expire(nodes: EtcdFleet, name: str) -> None:
    """What the lease's end does, without waiting for it."""
    with namespaces.entered(nodes.machines["m100"].place):
        member = nodes.etcd.members[0]
        found = nodes.etcd.call(member, "/v3/kv/range", {"key": b64(f"podway/Alive/{name}".encode())})
        kvs = found["kvs"]
        assert isinstance(kvs, list)
        nodes.etcd.call(member, "/v3/lease/revoke", {"ID": kvs[0]["lease"]})


def test_garbage_in_etcd_is_isolated(nodes: EtcdFleet) -> None:
    a, _, address = pair(nodes)
    with namespaces.entered(nodes.machines["m100"].place):
        for key in ("Node/x", "Block/10.244.77.0/24", "Network/y"):
            nodes.etcd.put(f"podway/{key}", b"\xff no json")
    a.says("10.244.77.0/24")
    assert reaches(a, "first", address)
    ping_within_node(nodes, "a", "second")


def test_members_go_one_after_the_other(nodes: EtcdFleet) -> None:
    """The agents stay in sync; what is declared meanwhile arrives."""
    a, b, address = pair(nodes)
    traffic = traffic_to(a, "first", address)
    for number, member in enumerate(nodes.etcd.members):
        member.kill()
        nodes.declare(f"n{number}", f"10.{100 + number}.0.0/16", 10 + number)
        for machine in (a, b):
            until(
                lambda m=machine, n=number: m.attach(f"n{n}", f"n{n}", check=False).get("ips"),
                f"network n{number} on {machine.name}",
            )
        member.start()
        with namespaces.entered(nodes.machines["m100"].place):
            nodes.etcd.wait()
    assert traffic.lost(least=50) == []
    until(lambda: json.loads(a.podway("status", "-o", "json").stdout)["store"] == "synced")


def test_an_etcd_that_lost_everything_is_filled_again(nodes: EtcdFleet) -> None:
    """Nothing is removed while it is no store; declared anew, nodes come back with the blocks they had."""
    a, b, address = pair(nodes)
    traffic = traffic_to(a, "first", address)
    before = sorted(one["metadata"]["name"] for one in listed(a, "blocks"))
    nodes.etcd.stop()
    for number in HOSTS:
        shutil.rmtree(nodes.directory / f"m{number}" / "member")
    nodes.start_store()
    a.says("there is no store yet")
    assert reaches(a, "first", address)
    nodes.declare("pods", "10.244.0.0/16", 1)
    a.says("store synced")
    b.says("store synced")
    until(lambda: sorted(one["metadata"]["name"] for one in listed(a, "blocks")) == before, "the same blocks")
    until(nodes.settled, "settled")
    assert reaches(a, "first", address)
    ping_within_node(nodes, "ab", "second")
    assert traffic.lost(least=50) == []


def listed(machine: Machine, kind: str) -> list[dict]:  # type: ignore[type-arg]
    found: list[dict] = json.loads(machine.podway("get", kind, "-o", "json").stdout)  # type: ignore[type-arg]
    return found

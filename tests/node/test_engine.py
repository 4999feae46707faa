"""The engine on the real kernel: one veth through the whole arrow, ADD and DEL, CHECK, GC, repair."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from podway.kernel import namespaces
from podway.kernel.facade import ALL_KINDS
from podway.kernel.rtnetlink import Rtnetlink
from podway.model import names
from podway.model.errors import Conflict, Exhausted, Unavailable
from podway.model.objects import Link
from podway.model.resources import Bandwidth, PodRoute, PortMap
from podway.node import book
from podway.node.engine import NodeEngine, open_engine
from podway.node.requests import AttachRequest
from podway.store import Record, open_store

pytestmark = pytest.mark.kernel

SPEC = {
    "attach": "bridge",
    "transport": "none",
    "pools": [{"cidr": "10.244.0.0/16"}, {"cidr": "fd00:10:244::/48"}],
}


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _declare(url: str, name: str = "pods", **changes: object) -> None:
    store = open_store(url, create=True)
    store.create(Record(kind="Network", name=name, spec=json.dumps(SPEC | changes).encode()))
    store.close()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:{tmp_path}/store.db"


@pytest.fixture
def engine(tmp_path: Path, url: str, in_namespace: int) -> Iterator[NodeEngine]:
    _declare(url)
    with open_engine("a", str(tmp_path / "state"), url) as opened:
        yield opened


def request(container: str = "c1", ifname: str = "eth0", **more: object) -> AttachRequest:
    settings = {"container": container, "ifname": ifname, "network": "pods", "namespace": "/nowhere"}
    return AttachRequest(**(settings | more))  # type: ignore[arg-type]


@contextlib.contextmanager
def pods(count: int) -> Iterator[list[int]]:
    """Namespaces of pods."""
    made = [namespaces.create() for _ in range(count)]
    try:
        yield made
    finally:
        for fd in made:
            os.close(fd)


def test_what_is_sent_to_a_pod_is_not_dropped_as_soon_as_it_is_attached(engine: NodeEngine) -> None:
    """Its link and the bridge have seen the pod's end come up: before, the first packet cost a second."""
    with pods(10) as made:
        for number, fd in enumerate(made):
            endpoint = engine.add(request(f"c{number}"), fd)
            links = json.loads(_run("ip", "-j", "link", "show"))  # a dump changes nothing about them
            states = {one["ifname"]: one["operstate"] for one in links}
            assert (states[endpoint.host_link], states[endpoint.bridge]) == ("UP", "UP")


def own_links() -> list[str]:
    """Names of Podway's pod links in this namespace."""
    rtnetlink = Rtnetlink()
    try:
        links = rtnetlink.dump("link").values()
        return [o.name for o in links if isinstance(o, Link) and o.alias and "pod:" in o.alias]
    finally:
        rtnetlink.close()


def elements(engine: NodeEngine) -> list[object]:
    """nftables elements that carry something of a pod."""
    return [o for o in engine.kernel.nft.observe().values() if "c1" in str(o) or "10.244." in str(o)]


def ping(namespace: int, address: str) -> bool:
    with namespaces.entered(namespace):
        done = subprocess.run(["ping", "-c1", "-W5", address], capture_output=True, check=False)
        return done.returncode == 0


def test_a_pod_is_wired_and_reaches_its_gateway(engine: NodeEngine, pod_namespace: int) -> None:
    endpoint = engine.add(request(), pod_namespace)
    assert [a.partition("/")[2] for a in endpoint.addresses] == ["24", "64"]
    for gateway in endpoint.gateways:
        assert ping(pod_namespace, gateway)


def test_what_went_with_a_pod_is_not_counted_any_more(engine: NodeEngine, pod_namespace: int) -> None:
    """However many come and go: what stands as wanted is what is wanted."""
    for _ in range(3):
        engine.add(request(), pod_namespace)
        assert engine.reconciler.programmed == len(engine.planner.desired)
        engine.delete(request().container, request().ifname)
        engine.attachments.burial.complete()
        assert engine.reconciler.programmed == len(engine.planner.desired)


def test_apply_observe_difference_is_empty(engine: NodeEngine, pod_namespace: int) -> None:
    engine.add(request(ports=(PortMap(host_port=8080, container_port=80),)), pod_namespace)
    ops, refusals, _ = engine.reconciler.plan()
    assert (ops, refusals) == ((), ())


@pytest.mark.parametrize("kind", sorted(ALL_KINDS))
def test_a_look_at_one_kind_finds_nothing_to_do(engine: NodeEngine, pod_namespace: int, kind: str) -> None:
    """Elements without their sets, filters without their queues: what is not asked for is no stray."""
    engine.add(request(bandwidth=Bandwidth(egress_rate=10_000_000)), pod_namespace)
    assert engine.reconciler.run({kind}).results == ()
    assert engine.reconciler.plan()[0] == ()


def test_delete_frees_everything_and_again_is_no_error(engine: NodeEngine, pod_namespace: int) -> None:
    engine.add(request(), pod_namespace)
    for _ in range(2):
        engine.delete("c1", "eth0")
        engine.attachments.burial.complete()
    assert own_links() == []
    assert not engine.database.endpoints()
    ops, _, _ = engine.reconciler.plan()
    assert ops == ()


def test_pods_of_one_node_reach_each_other_by_their_own_address(engine: NodeEngine) -> None:
    with pods(2) as (one, two):
        engine.add(request("c1"), one)
        second = engine.add(request("c2"), two)
        for address in second.addresses:
            assert ping(one, address.partition("/")[0])


def test_a_repeated_add_changes_nothing_and_a_different_one_is_refused(
    engine: NodeEngine, pod_namespace: int
) -> None:
    first = engine.add(request(), pod_namespace)
    assert engine.add(request(), pod_namespace) == first
    route = PodRoute(dst="192.0.2.0/24", gw="10.244.0.1")
    others = [{"mac": "02:00:00:00:00:99"}, {"mtu": 1400}, {"default_route": False}, {"routes": (route,)}]
    for other in others:
        with pytest.raises(Conflict, match="attached already"):
            engine.add(request(**other), pod_namespace)


def test_a_failed_add_leaves_nothing(engine: NodeEngine, pod_namespace: int) -> None:
    with namespaces.entered(pod_namespace):
        _run("ip", "link", "add", "eth0", "type", "bridge")
    before = set(engine.kernel.observe())
    with pytest.raises((Conflict, OSError, Exception), match="eth0"):
        engine.add(request(), pod_namespace)
    assert own_links() == []
    assert not engine.database.endpoints()
    left = {key for key in engine.kernel.observe() if key not in before}
    assert {key[0] for key in left} <= {"address"}  # the claimed blocks' gateways


def test_a_taken_port_names_who_has_it(engine: NodeEngine) -> None:
    port = (PortMap(host_port=8080, container_port=80),)
    with pods(2) as (one, two):
        engine.add(request("c1", ports=port, pod="default/web"), one)
        with pytest.raises(Conflict, match="default/web"):
            engine.add(request("c2", ports=port), two)


def test_several_interfaces_and_names(engine: NodeEngine, url: str, pod_namespace: int) -> None:
    _declare(url, "second", pools=[{"cidr": "10.9.0.0/16"}])
    engine.synchronize()
    engine.add(request(ifname="eth0"), pod_namespace)
    engine.add(request(ifname="net1", network="second", default_route=False), pod_namespace)
    with namespaces.entered(pod_namespace):
        shown = _run("ip", "-br", "address")
    assert "eth0" in shown and "net1" in shown and "10.9." in shown


def test_check_names_the_first_thing_missing(engine: NodeEngine, pod_namespace: int) -> None:
    endpoint = engine.add(request(), pod_namespace)
    engine.check(request(), pod_namespace, endpoint.addresses)
    with namespaces.entered(pod_namespace):
        _run("ip", "route", "add", "198.51.100.0/24", "via", endpoint.gateways[0])
    engine.check(request(), pod_namespace, endpoint.addresses)
    with namespaces.entered(pod_namespace):
        _run("ip", "route", "del", "default")
    with pytest.raises(Conflict, match=r"route .*0\.0\.0\.0/0.* is missing in the pod"):
        engine.check(request(), pod_namespace, endpoint.addresses)


def test_gc_removes_what_is_not_valid_and_nothing_else(engine: NodeEngine) -> None:
    with pods(3) as made:
        for number, fd in enumerate(made):
            engine.add(request(f"c{number}", configuration="one"), fd)
        engine.gc("pods", "one", frozenset({("c1", "eth0")}))
        assert own_links() == [names.host_link("c1", "eth0")]
        engine.gc("other", "one", frozenset())
        engine.gc("pods", "another configuration of the same network", frozenset())
        assert own_links() == [names.host_link("c1", "eth0")]
        engine.gc("pods", "one", frozenset())
        assert own_links() == []


@pytest.mark.parametrize(
    "damage",
    [
        ("ip", "address", "del", "10.244.0.1/24", "dev", "pw-pods"),
        ("ip", "link", "set", "pw-pods", "down"),
        ("ip", "link", "del", "pw-pods"),
        ("nft", "delete", "table", "inet", "podway"),
        ("nft", "flush", "ruleset"),
        ("sysctl", "-qw", "net.ipv4.ip_forward=0"),
        ("ip", "link", "del", names.host_link("c1", "eth0")),
    ],
    ids=lambda command: " ".join(command),
)
def test_whatever_is_damaged_is_mended_by_one_pass(
    tmp_path: Path, engine: NodeEngine, damage: tuple[str, ...]
) -> None:
    with pods(1) as (one,):
        path = tmp_path / "pod"
        path.touch()
        _run("mount", "--bind", f"/proc/{os.getpid()}/fd/{one}", str(path))
        try:
            block = engine.add(request(namespace=str(path)), one).addresses[0]
            text = [part.replace("10.244.0.1/24", _gateway(block)) for part in damage]
            _run(*text)
            engine.reconciler.run()
            ops, refusals, _ = engine.reconciler.plan()
            assert (ops, refusals) == ((), ())
            assert ping(one, _gateway(block).partition("/")[0])
            assert any(entry.kind in ("repaired", "programmed") for entry in engine.database.journal(50))
        finally:
            _run("umount", str(path))


def _gateway(address: str) -> str:
    import ipaddress

    network = ipaddress.ip_interface(address).network
    return f"{network.network_address + 1}/{network.prefixlen}"


def test_exhausted_says_which_pool_and_what_to_do(tmp_path: Path, url: str, in_namespace: int) -> None:
    _declare(url, pools=[{"cidr": "10.9.0.0/29", "blockSize": 29}], cooldown=3600)
    with open_engine("a", str(tmp_path / "state"), url) as engine, pods(6) as made:
        for number in range(5):
            engine.add(request(f"c{number}"), made[number])
        with pytest.raises(Exhausted, match=r"10\.9\.0\.0/29"):
            engine.add(request("c5"), made[5])


def test_an_empty_block_is_given_back_but_not_the_first(
    tmp_path: Path, url: str, in_namespace: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And whoever comes later gets another; one that is used by anybody stays."""
    _declare(url, pools=[{"cidr": "10.9.0.0/24", "blockSize": 29}], cooldown=0)
    with open_engine("a", str(tmp_path / "state"), url) as engine, pods(6) as made:
        for number in range(6):
            engine.add(request(f"c{number}"), made[number])
        first, second = sorted(engine.cluster.snapshot.blocks)
        kept = [one for one in engine.attachments.endpoints.values() if _in(one.addresses[0], second)]
        engine.release_empty()
        monkeypatch.setattr(book, "EMPTY", 0.0)
        engine.release_empty()
        engine.synchronize()
        assert sorted(engine.cluster.snapshot.blocks) == [first, second]
        for one in [*engine.attachments.endpoints.values()]:
            engine.delete(one.container, one.ifname)
        engine.attachments.burial.complete()
        assert kept
        engine.release_empty()
        engine.synchronize()
        assert [*engine.cluster.snapshot.blocks] == [first]
        assert second.partition("/")[0] not in _run("ip", "route")
        for number in range(6):
            engine.add(request(f"d{number}"), made[number])
        assert len(engine.cluster.snapshot.blocks) == 2


def _in(address: str, block: str) -> bool:
    return ipaddress.ip_interface(address).ip in ipaddress.ip_network(block)


def test_an_add_that_needs_room_leaves_flows_to_the_burial(engine: NodeEngine, pod_namespace: int) -> None:
    """It waits for the old interface in its namespace alone; flows to that one's ports are forgotten yet."""
    burial = engine.attachments.burial
    published = (PortMap(host_port=5353, container_port=53, protocol="udp"),)
    engine.add(request(ports=published), pod_namespace)
    burial.complete()
    engine.delete("c1", "eth0")
    engine.add(request("c2"), pod_namespace)
    assert (burial.dying, burial.due) == (False, True)
    burial.complete()
    assert not burial.due


def test_a_container_that_returns_at_once_elsewhere(tmp_path: Path, engine: NodeEngine) -> None:
    """Its link has the old one's name, and its row the old one's id: neither is buried with it."""
    with pods(2) as made:
        for namespace in made:
            engine.add(request(), namespace)
            engine.delete("c1", "eth0")
        engine.add(request(), made[0])
        engine.attachments.burial.complete()
        assert own_links() == [names.host_link("c1", "eth0")]
        assert [*engine.database.endpoints()] == ["c1/eth0"]


def test_a_second_writer_is_refused(tmp_path: Path, engine: NodeEngine, url: str) -> None:
    with pytest.raises(Unavailable), open_engine("a", str(tmp_path / "state"), url):
        pass


def test_an_outage_keeps_everything_and_removes_nothing(tmp_path: Path, url: str, in_namespace: int) -> None:
    _declare(url)
    with pods(2) as (one, two):
        with open_engine("a", str(tmp_path / "state"), url) as engine:
            engine.add(request("c1"), one)
        (tmp_path / "store.db").rename(tmp_path / "away.db")
        with open_engine("a", str(tmp_path / "state"), f"sqlite:{tmp_path}/gone/store.db") as engine:
            assert not engine.cluster.snapshot.synced
            assert own_links() == [names.host_link("c1", "eth0")]
            engine.add(request("c2"), two)
            assert ping(one, engine.attachments.endpoints["c2/eth0"].addresses[0].partition("/")[0])


def test_a_thread_is_never_left_in_a_pod(engine: NodeEngine, pod_namespace: int) -> None:
    before = os.stat(namespaces.OWN).st_ino
    engine.add(request(), pod_namespace)
    assert os.stat(namespaces.OWN).st_ino == before
    assert threading.active_count() == 1

"""One peer's change among many is programmed by itself, without a look at the rest of the kernel; wherever
that is not enough, everything is looked at."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from podway.node.engine import NodeEngine, open_engine
from podway.store import Record, Store, open_store

pytestmark = pytest.mark.kernel
WAY = "vxlan:1:8472:4"
PEERS = 30


def _fill(store: Store) -> None:
    spec = {"pools": [{"cidr": "10.0.0.0/8"}], "transport": "vxlan"}
    store.create(Record(kind="Network", name="pods", spec=json.dumps(spec).encode()))
    status = json.dumps({"paths": {"pods": {"accepts": [WAY], "sends": [WAY]}}}).encode()
    for number in range(1, PEERS + 1):
        address = json.dumps({"addresses": [f"192.0.2.{number + 100}/24"]}).encode()
        store.create(Record(kind="Node", name=f"n{number}", spec=address, status=status))
        block = {"network": "pods", "node": f"n{number}", "attach": "bridge"}
        name = f"10.{number}.0.0/24"
        store.create(Record(kind="Block", name=name, spec=json.dumps(block).encode()))


@pytest.fixture
def scene(tmp_path: Path, in_namespace: int) -> Iterator[tuple[NodeEngine, Store]]:
    """An engine among peers, everything programmed."""
    for words in (
        "link add up0 type veth peer name up1",
        "address add 192.0.2.1/24 dev up0",
        "link set up0 up",
    ):
        subprocess.run(["ip", *words.split()], check=True)
    url = f"sqlite:{tmp_path}/store.db"
    with contextlib.closing(open_store(url, create=True)) as store:
        _fill(store)
        with open_engine("n0", str(tmp_path / "state"), url) as engine:
            engine.follow_store()
            assert not engine.reconciler.problems, engine.reconciler.problems
            yield engine, store


def _move(store: Store, name: str, address: str) -> None:
    node = store.get("Node", name)
    spec = json.dumps({"addresses": [address]}).encode()
    store.update_spec(msgspec.structs.replace(node, spec=spec))


def _fdb() -> str:
    return subprocess.run(["bridge", "fdb"], check=True, capture_output=True, text=True).stdout


def _blind(engine: NodeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("the kernel was looked at")

    monkeypatch.setattr(engine.kernel, "observe", never)


def test_what_changed_is_all_that_is_done(
    scene: tuple[NodeEngine, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A peer moves, goes and comes; nothing but its own objects is touched, and then all is as planned."""
    engine, store = scene
    with monkeypatch.context() as patch:
        _blind(engine, patch)
        _move(store, "n7", "192.0.2.99/24")
        report = engine.follow_store()
        assert {result.op.key[0] for result in report.results} == {"fdb", "nftelement"}
        assert "dst 192.0.2.99" in _fdb() and "dst 192.0.2.107" not in _fdb()
        block = store.get("Block", "10.9.0.0/24")
        store.delete("Block", "10.9.0.0/24")
        engine.follow_store()
        assert "10.9.0.0/24" not in subprocess.check_output(["ip", "route"], text=True)
        store.create(block)
        engine.follow_store()
        assert "10.9.0.0/24" in subprocess.check_output(["ip", "route"], text=True)
        assert engine.follow_store().results == ()
    assert engine.synchronize().results == ()


def test_what_the_kernel_refuses_is_looked_at(scene: tuple[NodeEngine, Store]) -> None:
    """The device went behind its back: the change finds out, and everything is made anew."""
    engine, store = scene
    (device,) = (
        key[1] for key in engine.planner.desired if key[:1] == ("link",) and key[1].startswith("pwv")
    )
    subprocess.run(["ip", "link", "del", device], check=True)
    _move(store, "n7", "192.0.2.98/24")
    engine.follow_store()
    assert "dst 192.0.2.98" in _fdb() and _fdb().count(device) == PEERS


def test_a_large_snapshot_is_kept_once_in_a_while(
    scene: tuple[NodeEngine, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And at the latest when the engine ends."""
    engine, store = scene
    monkeypatch.setattr("podway.node.cluster.CHEAP", 0.0)
    _move(store, "n7", "192.0.2.97/24")
    engine.follow_store()
    _move(store, "n7", "192.0.2.96/24")
    engine.follow_store()
    kept = engine.database.snapshot()
    assert kept is not None and kept.nodes["n7"].spec.addresses == ("192.0.2.97/24",)
    assert engine.next_step is not None
    engine.cluster.save(now=True)
    kept = engine.database.snapshot()
    assert kept is not None and kept.nodes["n7"].spec.addresses == ("192.0.2.96/24",)

"""The machine's neighbour tables grow while large labs live, and shrink when the last of them is gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from podway.lab import neighbours, topology
from podway.lab.neighbours import make_room, need

BIG, SMALL = topology.default(nodes=100, pods=1), topology.default(nodes=3)


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sysctls of a machine as the kernel makes them, and where labs write down what they were."""
    for family in neighbours.TABLES:
        (tmp_path / f"net/{family}/neigh/default").mkdir(parents=True)
        for limit, value in zip(neighbours.LIMITS, (128, 512, 1024), strict=True):
            (tmp_path / f"net/{family}/neigh/default" / limit).write_text(f"{value}\n")
    monkeypatch.setattr(neighbours, "SYSCTLS", tmp_path / "net")
    (tmp_path / "run/podway").mkdir(parents=True)
    return tmp_path / "run/podway/memory.json"


def limits() -> list[int]:
    return [
        int((neighbours.SYSCTLS / family / "neigh/default" / limit).read_text())
        for family in neighbours.TABLES
        for limit in neighbours.LIMITS
    ]


def raised(*labs: topology.Topology) -> list[int]:
    return [value + sum(need(lab) for lab in labs) for value in (128, 512, 1024) * 2]


def test_a_lab_of_a_hundred_nodes_has_room_for_all_pairs() -> None:
    """Everybody on the LAN by two addresses, and nodes and pods of each other."""
    assert need(BIG) == 2 * 101 * 100 + 2 * 2 * 1 + 4 * 100


def test_limits_are_raised_once_and_put_back(memory: Path) -> None:
    """Two large labs need both; the last one's end leaves the machine as it was, without a trace."""
    make_room(memory, [BIG])
    make_room(memory, [BIG])
    assert limits() == raised(BIG)
    make_room(memory, [BIG, BIG])
    assert limits() == raised(BIG, BIG)
    make_room(memory, [BIG])
    assert limits() == raised(BIG)
    make_room(memory, [])
    assert limits() == raised()
    assert not memory.exists()


def test_small_labs_change_nothing(memory: Path) -> None:
    make_room(memory, [SMALL, SMALL])
    assert limits() == raised() and not memory.exists()


def test_what_a_killed_lab_left_is_put_back_by_the_next_command(memory: Path) -> None:
    """Nobody took back its room; whoever comes next counts the living only."""
    make_room(memory, [BIG])
    make_room(memory, [SMALL])
    assert limits() == raised() and not memory.exists()


def test_who_was_killed_between_note_and_change_is_made_up_for(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The note is written first, so both what was and what was meant are known as ours."""
    make_room(memory, [BIG])
    note = neighbours._remember

    def killed(path: Path, new: neighbours.Memory) -> None:
        note(path, new)
        raise KeyboardInterrupt

    monkeypatch.setattr(neighbours, "_remember", killed)
    with pytest.raises(KeyboardInterrupt):
        make_room(memory, [BIG, BIG])
    monkeypatch.setattr(neighbours, "_remember", note)
    make_room(memory, [])
    assert limits() == raised()


def test_another_administrators_limit_is_kept(memory: Path) -> None:
    """Changed while a lab lived, it is what stays."""
    make_room(memory, [BIG])
    path = neighbours.SYSCTLS / "ipv4/neigh/default/gc_thresh3"
    path.write_text("50000")
    make_room(memory, [])
    assert limits() == [128, 512, 50000, 128, 512, 1024]


def test_elsewhere_than_in_the_machines_own_namespace_nothing_is_changed(memory: Path) -> None:
    """Other network namespaces have no such limits."""
    (neighbours.SYSCTLS / "ipv6/neigh/default/gc_thresh3").unlink()
    make_room(memory, [BIG])
    assert not memory.exists()
    assert neighbours._read("ipv4/neigh/default/gc_thresh1") == 128

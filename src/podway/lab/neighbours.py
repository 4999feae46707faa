"""The kernel's neighbour tables: one per family for all namespaces of the machine, and soon full.

While labs are alive the limits are raised by what they need, and put back when the last has ended. What
the limits were is written down before they are changed, so whoever starts, ends or removes a lab next
makes up for one that was killed. A limit that somebody else changed meanwhile counts as it was found.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from podway.lab.topology import Topology

TABLES = {"ipv4": "arp_cache", "ipv6": "ndisc_cache"}
LIMITS = ("gc_thresh1", "gc_thresh2", "gc_thresh3")  # nothing is collected below 1, 3 is the end: arp(7)
SYSCTLS = Path("/proc/sys/net")
SHARE = 4  # labs that need less than this part of a table change nothing


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """sysctl → what it was before any lab, and all that labs set it to since."""

    before: dict[str, int] = {}
    ours: dict[str, list[int]] = {}


def need(topology: Topology) -> int:
    """Neighbours per family that a lab has when everybody has talked to everybody.

    On a segment each machine knows each other (IPv6 by two addresses), a node its pods and they it."""
    entries = 0
    for segment in topology.segments:
        members = sum(segment.name in [port.segment for port in one.ports] for one in topology.machines)
        entries += 2 * members * (members - 1)
    return entries + sum(4 * len(machine.pods) for machine in topology.machines)


def make_room(memory: Path, labs: Iterable[Topology]) -> None:
    """Set the limits for the labs that are alive; without any, as they were before the first.

    ``memory``: the file in which that is written down. The limits belong to the machine's own network
    namespace: from another one nothing is changed, and ``crowded`` can't be told either."""
    wanted = sum(need(topology) for topology in labs)
    lock = os.open(memory.parent.parent, os.O_RDONLY | os.O_CLOEXEC)  # a directory that never goes: /run
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for family in TABLES:
            if _read(_path(family, LIMITS[-1])) is None:
                return
        _set(memory, wanted)
    finally:
        os.close(lock)


def _set(memory: Path, wanted: int) -> None:
    known = _recall(memory)
    paths = [_path(family, limit) for family in TABLES for limit in LIMITS]
    now = {path: _read(path) or 0 for path in paths}
    before = {p: known.before[p] if now[p] in known.ours.get(p, ()) else now[p] for p in paths}
    most = min(before[_path(family, LIMITS[-1])] for family in TABLES)
    room = wanted if wanted > most // SHARE else 0
    target = {path: before[path] + room for path in paths}
    if target != now:
        ours = {path: sorted({*known.ours.get(path, ()), target[path]}) for path in paths}
        _remember(memory, Memory(before=before, ours=ours))
        for path, value in target.items():
            (SYSCTLS / path).write_text(str(value))
    if not room:
        memory.unlink(missing_ok=True)


def _path(family: str, limit: str) -> str:
    return f"{family}/neigh/default/{limit}"


def _read(path: str) -> int | None:
    try:
        return int((SYSCTLS / path).read_text())
    except OSError:
        return None


def _recall(memory: Path) -> Memory:
    try:
        return msgspec.json.decode(memory.read_bytes(), type=Memory)
    except (OSError, msgspec.MsgspecError):
        return Memory()


def _remember(memory: Path, new: Memory) -> None:
    part = memory.with_suffix(".new")
    part.write_bytes(msgspec.json.encode(new))
    part.rename(memory)


def crowded() -> str:
    """Words for a table that has no room for another neighbour; "" when both have.

    The limit can be read in the machine's own network namespace only; elsewhere this says nothing."""
    for family, table in TABLES.items():
        path = _path(family, LIMITS[-1])
        try:
            entries = int(Path("/proc/net/stat", table).read_text().splitlines()[1].split()[0], 16)
        except (OSError, ValueError, IndexError):
            continue
        most = _read(path)
        if most is not None and entries >= most:
            name = f"net.{path.replace('/', '.')}"
            return (
                f"this machine's {family} neighbour table is full ({entries} of {most}, all namespaces"
                f" together): sysctl -w {name}={entries * 4}, or end other labs and containers"
            )
    return ""

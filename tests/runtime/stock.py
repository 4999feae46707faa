"""What stands in a machine, as lines: equal before and after, nothing was left."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from pathlib import Path

from machine import Machine

# What the reference plugins and libcni keep for good: locks, the last address given, empty directories.
_KEPT = re.compile(r"/(lock|cni\.lock|last_reserved_ip\.\d+)$")
_COUNTERS = re.compile(r"counter packets \d+ bytes \d+")
_LISTS = (
    ("ip", "-br", "link"),
    ("ip", "-br", "addr"),
    ("ip", "route"),
    ("ip", "-6", "route"),
    ("ip", "rule"),
    ("find", "/var/lib/cni", "/run/netns", "-type", "f"),
)


def stock(machine: Machine) -> set[str]:
    """Links, addresses, routes, rules, files of CNI, named namespaces, mounts and nftables."""
    found: set[str] = set()
    for command in _LISTS:
        lines = machine.run(*command).splitlines()
        found |= {f"{command[1]}: {_settled(line)}" for line in lines if not _KEPT.search(line)}
    table = ""
    for line in machine.run("nft", "list", "ruleset").splitlines():
        table = line if line.startswith("table") else table
        found.add(f"nft {table} {_COUNTERS.sub('counter', line.strip())}")
    mounts = machine.run("cat", "/proc/self/mountinfo").splitlines()
    found |= {f"mount {line.split()[4]}" for line in mounts}
    return found


def _settled(line: str) -> str:
    """Without what a bridge's ports decide: its carrier and, of a reference bridge, its MAC."""
    words = line.split()
    name = words[0].partition("@")[0] if words else ""
    without = re.sub(
        r"[0-9a-f]{2}(:[0-9a-f]{2}){5}|fe80::\S+| linkdown|UNKNOWN|UP|DOWN|NO-CARRIER|[<>,]", "", line
    )
    return " ".join([name, *without.split()[1:]])


def rows(database: Path) -> int:
    """How many attachments of pods a node's database keeps; devices that no pod owns aren't counted."""
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as opened:
        counts = (
            opened.execute(f"SELECT count(*) FROM {table} WHERE id NOT LIKE '/%'").fetchone()[0]
            for table in ("endpoint", "piece")
        )
        return sum(counts)

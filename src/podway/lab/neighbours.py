"""The kernel's neighbour tables: one per family for all namespaces of the machine, and soon full."""

from __future__ import annotations

from pathlib import Path

TABLES = {"ipv4": "arp_cache", "ipv6": "ndisc_cache"}


def crowded() -> str:
    """Words for a table that has no room for another neighbour; "" when both have.

    The limit can be read in the machine's own network namespace only; elsewhere this says nothing."""
    for family, table in TABLES.items():
        limit = f"net/{family}/neigh/default/gc_thresh3"
        try:
            most = int(Path("/proc/sys", limit).read_text())
            entries = int(Path("/proc/net/stat", table).read_text().splitlines()[1].split()[0], 16)
        except (OSError, ValueError, IndexError):
            continue
        if entries >= most:
            name = limit.replace("/", ".")
            return (
                f"this machine's {family} neighbour table is full ({entries} of {most}, all namespaces"
                f" together): sysctl -w {name}={entries * 4}, or end other labs and containers"
            )
    return ""

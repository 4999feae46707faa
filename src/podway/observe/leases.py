"""The DHCP leases of a node's pods, as a table."""

from __future__ import annotations

from collections.abc import Iterable

from podway.agent.dhcp_report import LeaseReport
from podway.observe.words import ago, until

COLUMNS = ["CONTAINER", "INTERFACE", "NETWORK", "ADDRESS", "STATE", "ENDS IN"]
WIDE = [*COLUMNS, "SERVER", "GATEWAY", "AGE", "RENEWED IN", "WHY"]


def rows(leases: Iterable[LeaseReport], wide: bool) -> list[list[str]]:
    """Lines of the table."""
    made = []
    for one in leases:
        row = [one.container[:12], one.interface, one.network, one.address, one.state, until(one.ends)]
        more = [one.server, one.gateway or "-", ago(one.obtained), until(one.renews), one.why or "-"]
        made.append(row + more if wide else row)
    return made

"""What a node's agent found out of its peers, as a table and as checks of ``podway doctor``."""

from __future__ import annotations

import time

from podway.agent.health import PathReport, PeerReport
from podway.kernel.preflight import Check
from podway.model.errors import Unavailable
from podway.observe import client

COLUMNS = ["NAME", "VERDICT", "SINCE", "REASON"]
WIDE = ["NAME", "VERDICT", "SINCE", "PATH", "TARGET", "FOUND", "MTU", "RTT", "LAST ANSWER"]


def checks(path: str) -> list[Check]:
    """A warning for each peer that something is wrong with; nothing while no agent answers at ``path``."""
    try:
        found = client.peers(path)
    except Unavailable:
        return []
    bad = [peer for peer in found if peer.verdict not in ("ok", "unknown")]
    made = [Check(f"peer {peer.name}", "warning", f"{peer.title}: {peer.reason}", peer.fix) for peer in bad]
    well = sum(peer.verdict == "ok" for peer in found)
    return [*made, Check("peers", "ok", f"{well} of {len(found)} answer by every path")] if found else made


def rows(peers: list[PeerReport], wide: bool) -> list[list[str]]:
    """Lines of the table; wide: one for each path."""
    if not wide:
        return [[peer.name, peer.title, _ago(peer.since), peer.reason or "-"] for peer in peers]
    return [
        [peer.name, peer.title, _ago(peer.since), *_path(path)]
        for peer in peers
        for path in peer.paths or (None,)
    ]


def _path(path: PathReport | None) -> list[str]:
    if path is None:
        return ["-"] * 6
    name = f"{path.network} by {path.carrier or 'routes'}" if path.network else path.layer
    mtu = f"{path.mtu or '?'} of {path.expected_mtu}" if path.mtu != path.expected_mtu else str(path.mtu)
    rtt = f"{path.milliseconds:.1f} ms" if path.answered else "-"
    return [name, path.target, path.finding, mtu, rtt, _ago(path.answered)]


def _ago(at: float) -> str:
    seconds = max(0, int(time.time() - at))
    if not at:
        return "-"
    minutes, hours = seconds // 60, seconds // 3600
    return f"{hours}h{minutes % 60}m" if hours else f"{minutes}m{seconds % 60}s" if minutes else f"{seconds}s"
